"""What a call costs the server, in CPU time: observed by us, by the peers, and not at all."""
