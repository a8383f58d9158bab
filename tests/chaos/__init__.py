"""Faults at random while people are in the shop, and what must hold all the same."""
