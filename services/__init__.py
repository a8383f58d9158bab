"""The two services of the bookshop, and the command that runs the pair."""

__version__ = "0.1.0"
