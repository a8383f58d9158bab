"""Runs cases on a stack, several at once, and gives what was seen in each."""

import gc
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from tests.conformance.case import Case, Part
from tests.conformance.client_behaviours import Client
from tests.conformance.observations import Seen
from tests.conformance.servers import Methods, World
from tests.conformance.stacks import Stack

AT_ONCE = 32
PATIENCE_S = 30.0
AT_ITS_CLOSE = ("closed", ("ended", True), ("ended", False))


class Run:
    """Cases on one stack: `observation(case)` waits for it."""

    def __init__(self, stack: Stack, cases: Sequence[Case], at_once: int = AT_ONCE) -> None:
        self.stack, self.cases = stack, cases
        gc.collect()
        gc.freeze()  # some cases collect garbage: let them find little
        self.methods = Methods(cases)
        self._world = World(stack, self.methods)
        self.client_spans: dict[str, list[bool]] = {}
        self._pool = ThreadPoolExecutor(at_once)
        self._futures: dict[str, Future[Any]] = {
            case.name: self._pool.submit(self._observe, case) for case in cases
        }

    def observation(self, case: Case) -> dict[str, Any]:
        """What client and handler saw, as plain data; "hangs" where the client does not end."""
        try:
            observed: dict[str, Any] = self._futures[case.name].result(PATIENCE_S)
            return observed
        except TimeoutError:
            return {"client": "hangs", "handler": []}

    def _observe(self, case: Case) -> dict[str, Any]:
        seen = self.methods.seen[case.name]
        channel = self._world.channel(case.client, case.flavour, case.transport)
        client = Client(channel, case, seen, self._world)
        self.client_spans[case.name] = client.spans
        try:
            saw = _driven(client) if case.client == "sync" else self._world.loop.run(_driven_aio(client))
        except Exception as error:
            saw = {"driver": f"{type(error).__name__}: {error}"}
        try:
            return {"client": saw, "handler": _handler_saw(case, seen)}
        finally:
            seen.released.set()

    def wait(self) -> None:
        """Until all cases have been run."""
        for case in self.cases:
            self.observation(case)

    def close(self) -> None:
        """Stop the servers."""
        self.wait()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._world.close()
        gc.unfreeze()
        gc.collect()


def _driven(client: Client) -> Any:
    """What the client of a case saw; nothing of the call may stay current with it."""
    saw = client.case.drive(client)
    client.note_span()
    return saw


async def _driven_aio(client: Client) -> Any:
    saw = await client.case.drive(client)
    client.note_span()
    return saw


def _handler_saw(case: Case, seen: Seen) -> Any:
    """What is compared of what the handler saw."""
    if not case.asserts(Part.HANDLER):
        return case.reason
    events = seen.saw(case.entered)
    return events if case.asserts(Part.CLEAN_UP) else [event for event in events if event not in AT_ITS_CLOSE]


@contextmanager
def alone(stack: Any, case: Case) -> Iterator[Run]:
    """The case on an idle machine: on a busy one a deadline may pass before the server hears of the call."""
    run = Run(stack, [case])
    try:
        yield run
    finally:
        run.close()
