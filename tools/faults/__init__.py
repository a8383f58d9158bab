"""The faults of the running pair, for people: lists them, and switches them on and off."""
