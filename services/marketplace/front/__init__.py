"""The front door: reads whole requests before a thread takes them, and refuses what is too much."""
