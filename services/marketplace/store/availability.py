"""Whether the database answers: after some failures in a row it is away, and pages need not wait for it."""

import logging
import threading
from collections.abc import Callable

from sqlalchemy.exc import DBAPIError

from services.marketplace.store.database import FAILURES

logger = logging.getLogger(__name__)
MOST_FAILURES = 3  # in a row
RETRY_S = 0.5
LONGEST_RETRY_S = 30.0  # while only the load of a feed fails
CLOSE_S = 1.0


class Unavailable(Exception):  # noqa: N818 (a domain name, not an error of the program)
    """The database does not answer now; reason is a word for why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Availability:
    """Counts failures, and has a thread that brings the database back, as long as one is needed.

    load puts the feed into the database unless it is there; probe reads as pages do.
    """

    def __init__(self, load: Callable[[], None], probe: Callable[[], object]) -> None:
        self.is_away = False
        self.is_loaded = False
        self._load, self._probe = load, probe
        self._failures = 0
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()
        self._logged = ""

    def start(self) -> None:
        """Load the feed; without a database, go on and try again. Raises FeedError."""
        try:
            self._load()
            self.is_loaded = True
        except FAILURES as error:
            self._log_not_loaded(error)
            self._look()
            with self._lock:
                self._recover_in_thread()

    def answered(self) -> None:
        """A query succeeded."""
        self._failures = 0

    def failed(self, error: Exception) -> None:
        """A query failed."""
        with self._lock:
            self._failures += 1
            if self._failures < MOST_FAILURES or self.is_away:
                return
            self.is_away = True
            self._recover_in_thread()
        logger.error("the database is away: %s", cause(error))

    def close(self) -> None:
        """Try no more, and wait a little for what is being tried: its connection would stay open."""
        self._closed.set()
        thread = self._thread
        if thread is not None:
            thread.join(CLOSE_S)

    def _recover_in_thread(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._recover, name="database-recovery", daemon=True)
            self._thread.start()

    def _recover(self) -> None:
        pause_s = RETRY_S
        while not self._closed.wait(pause_s):
            self._load_again()
            self._look()
            with self._lock:
                if self.is_loaded and not self.is_away:
                    self._thread = None
                    return
            pause_s = RETRY_S if self.is_away else min(2 * pause_s, LONGEST_RETRY_S)

    def _load_again(self) -> None:
        try:
            self._load()
            self.is_loaded = True
            self._logged = ""
        except Exception as error:  # whatever it is, the thread must go on
            self.is_loaded = False
            self._log_not_loaded(error)

    def _look(self) -> None:
        try:
            self._probe()
        except Exception:  # it is logged and counted where it is raised
            self.is_away = True
            return
        self._failures = 0
        if self.is_away:
            self.is_away = False
            logger.warning("the database answers again")

    def _log_not_loaded(self, error: Exception) -> None:
        """Once for each cause: the same one every half a second helps nobody."""
        if (why := cause(error)) != self._logged:
            logger.error("the feed could not be loaded, the books are those of before: %s", why)
            self._logged = why


def cause(error: Exception) -> str:
    """What the database itself says, in one line and without the query."""
    said = str(error.orig if isinstance(error, DBAPIError) else error)
    return said.strip().partition("\n")[0]
