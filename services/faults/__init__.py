"""Faults that are switched on while the services run, to learn how each looks: off unless a port is given."""
