"""The one way in which the pair fails."""


class PairError(Exception):
    """The pair cannot start or go on; its text is the one line that the user reads."""
