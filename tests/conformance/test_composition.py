"""Among other people's interceptors ours change nothing, and record what happened."""

import logging
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import pytest
import sentry_sdk
from sentry_sdk.transport import Transport

from tests.conformance.composition_calls import Call
from tests.conformance.compositions import Composition, Result, compositions, run
from tests.conformance.conftest import AGAIN
from tests.conformance.servers import Loop

AT_ONCE = 12
MORE_TRIES = 3
OF_CORE = "Internal error from Core"  # an asyncio stream gets it of gRPC now and then, with ours and without
COMPOSITIONS = compositions()

Judge = Callable[[Result, Result], bool]


class Nowhere(Transport):
    """Sends nothing anywhere."""

    def capture_envelope(self, envelope: Any) -> None:
        """Drop it."""


class Runs:
    """Each composition is run once with ours and once without, several at a time."""

    def __init__(self, wanted: list[Composition], loop: Loop) -> None:
        self._loop = loop
        self._pool = ThreadPoolExecutor(AT_ONCE)
        self._futures: dict[Any, Future[Result]] = {}
        for composition in wanted:
            for key, ours in ((composition.without, False), (composition, True)):
                if key not in self._futures:
                    self._futures[key] = self._pool.submit(run, composition, loop, ours)

    def settled(
        self, composition: Composition, is_chance: Judge, record_property: Any
    ) -> tuple[Result, Result]:
        """With ours, and without; once more, alone, while is_chance: when busy, a deadline may pass before its call."""
        ours, bare = self._futures[composition].result(), self._futures[composition.without].result()
        for _ in range(MORE_TRIES):
            if not is_chance(ours, bare):
                break
            record_property(AGAIN, str(composition))
            wait(self._futures.values())
            ours, bare = run(composition, self._loop, True), run(composition, self._loop, False)
        return ours, bare

    def close(self) -> None:
        """Let those that are running end."""
        self._pool.shutdown(cancel_futures=True)


def of_contrib(record: logging.LogRecord) -> bool:
    """Whether contrib's code is at work when OpenTelemetry complains of a context: it holds tokens in generators."""
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        if "opentelemetry/instrumentation/grpc" in frame.f_code.co_filename:
            return True
    return False


@pytest.fixture(scope="module")
def loop() -> Iterator[Loop]:
    """A loop for asyncio."""
    made = Loop()
    yield made
    made.close(ThreadPoolExecutor(1))


@pytest.fixture(scope="module", autouse=True)
def others_at_work() -> Iterator[None]:
    """Sentry is set up, and what contrib's generators do to contexts is not put down to ours."""
    sentry_sdk.init(
        dsn="http://key@127.0.0.1:9/1",
        transport=Nowhere,
        traces_sample_rate=1.0,
        default_integrations=False,
        auto_enabling_integrations=False,
    )
    logger = logging.getLogger("opentelemetry.context")

    def keep(record: logging.LogRecord) -> bool:
        return not of_contrib(record)

    logger.addFilter(keep)
    yield
    logger.removeFilter(keep)
    sentry_sdk.get_client().close(timeout=0)
    sentry_sdk.get_global_scope().set_client(None)


@pytest.fixture(scope="module")
def runs(request: pytest.FixtureRequest, loop: Loop) -> Iterator[Runs]:
    """The compositions that this session's tests ask for."""
    asked = (
        getattr(item, "callspec", None) and item.callspec.params.get("composition")  # type: ignore[attr-defined]
        for item in request.session.items
    )
    made = Runs([*dict.fromkeys(each for each in asked if each)], loop)
    yield made
    made.close()


def differences(ours: Result, bare: Result) -> dict[Call, Any]:
    """What client or handler saw that was not the same, by call."""
    return {
        call: {"ours": saw, "bare": bare.saw[call]}
        for call, saw in ours.saw.items()
        if as_seen(saw) != as_seen(bare.saw[call])
    }


def as_seen(saw: dict[str, Any]) -> dict[str, Any]:
    """What both saw; whether a span is left current is a question of truth."""
    return saw | {"client": {key: value for key, value in saw["client"].items() if key != "left current"}}


def differs_by_chance(ours: Result, bare: Result) -> bool:
    """Whether only calls differ that time, or gRPC, may end in another way."""
    found = differences(ours, bare)
    return bool(found) and all(call.has_deadline or OF_CORE in repr(saw) for call, saw in found.items())


def is_wrong_by_chance(ours: Result, bare: Result) -> bool:
    """Whether only calls were recorded wrongly whose deadline passed, perhaps on one side alone."""
    return bool(ours.wrong) and all("deadline_passes" in line for line in ours.wrong)


@pytest.mark.parametrize("composition", COMPOSITIONS, ids=str)
def test_transparent(composition: Composition, runs: Runs, record_property: Any) -> None:
    """What client and handlers see of each call is what they see of the same composition without ours."""
    assert differences(*runs.settled(composition, differs_by_chance, record_property)) == {}


@pytest.mark.parametrize("composition", COMPOSITIONS, ids=str)
def test_true(composition: Composition, runs: Runs, record_property: Any) -> None:
    """Each attempt is one span, one count and one log line on each side, with the status on the wire and the
    right parent; nothing stays in flight, and no span stays current with the caller.
    """
    ours, bare = runs.settled(composition, is_wrong_by_chance, record_property)
    assert ours.wrong == []
    assert left_current(ours) <= left_current(bare)


def left_current(result: Result) -> set[Call]:
    """The calls after which a span stayed current with the caller."""
    return {call for call, saw in result.saw.items() if saw["client"]["left current"]}
