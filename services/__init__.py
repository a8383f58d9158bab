"""The two services of the bookshop, and what both of them use."""

__version__ = "0.1.0"
