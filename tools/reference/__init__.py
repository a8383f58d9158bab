"""Writes docs/reference.md from the package's docstrings and from what it records of a call."""
