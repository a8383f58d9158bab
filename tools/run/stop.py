"""What Ctrl-C and SIGTERM ask for."""

import signal


class StopRequests:
    """Notes the signals: the first asks to stop, a Ctrl-C after it asks to stop at once."""

    def __init__(self) -> None:
        self.requested = False
        self.at_once = False

    def take_signals(self) -> None:
        """From now on this process does not end by Ctrl-C and SIGTERM; they are noted here."""
        signal.signal(signal.SIGINT, self._note)
        signal.signal(signal.SIGTERM, self._note)

    def _note(self, number: int, _frame: object) -> None:
        # Only Ctrl-C: make passes a SIGTERM on that the process group has been sent already.
        self.at_once |= self.requested and number == signal.SIGINT
        self.requested = True
