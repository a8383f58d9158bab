"""What a person uses on the running pair: run, doctor, drill and load; and reference, which writes docs."""
