"""The journal: live records, ended records, and the thread that hands them to the signals."""

import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol

from observability.call import Record
from observability.mailbox import Mailbox
from observability.tally import Tally

MAX_WAITING = 8192
BATCH = 16  # half a millisecond, for which a request may have to wait
ENOUGH = 512
DELAY_S = 0.1
ENDING_S = 0.25
PAUSE_S = 0.005


class Signal(Protocol):
    """One thing that is made of records."""

    name: str

    def record(self, batch: Sequence[Record]) -> None:
        """Take records that have ended; called by one thread, which must not be held up."""
        ...


class Journal(Mailbox[Record]):
    """Where requests leave their records: appending one is all that the end of a request does.

    `live` holds the records that have not reached the signals. A record that ends while the journal is full
    or closed is lost to traces, logs and histograms, but not to counters: `lost` counts it, by operation and
    status.
    """

    def __init__(self, tally: Tally) -> None:
        self.signals: list[Signal] = []
        self.losing = threading.RLock()
        self.live: set[Record] = set()
        self.lost: Counter[tuple[Any, str]] = Counter()
        self.tally = tally
        super().__init__(
            "journal",
            self._hand_out,
            lambda: tally.failure("journal"),
            limit=MAX_WAITING,
            batch=BATCH,
            enough=ENOUGH,
            delay_s=DELAY_S,
        )

    def begin(self) -> None:
        """Start from nothing, as a forked child does: what is live or waits is the parent's."""
        for record in self.live:
            record.disown()
        self.live = set()
        self.lost = Counter()
        self.losing = threading.RLock()
        super().begin()

    def end(self, record: Record, *, urgent: bool = False) -> None:
        """Take a record that has ended."""
        if not self.put(record, urgent=urgent):
            with self.losing:
                self.lost[record.operation, record.status] += 1
                self.live.discard(record)
            self.tally.add("telemetry_records_dropped", "shutdown" if self.is_closed else "queue_full")

    def flush(self, timeout_s: float) -> bool:
        """Hand out all records that have ended, and those whose code has, when the framework says how."""
        end = time.monotonic() + timeout_s
        patience = time.monotonic() + min(timeout_s, ENDING_S)
        while (ending := [it for it in tuple(self.live) if it.is_ending]) and time.monotonic() < patience:
            for record in sorted(ending, key=lambda it: it.started_ns):
                record.settle()
            time.sleep(PAUSE_S)
        return super().flush(end - time.monotonic())

    def _hand_out(self, batch: list[Record]) -> None:
        for signal in self.signals:
            try:
                signal.record(batch)
            except Exception:
                self.tally.failure(signal.name)
        self.live.difference_update(batch)  # the metrics have done so, unless they failed
