"""What the tests need to know of another package's interceptor."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.trace import Span, SpanProcessor, TracerProvider

from tests.conformance.case import KINDS
from tests.conformance.composition_calls import ENDS, Call, Layer
from tests.conformance.handler_forms import same

POSITIONS = ("outermost", "innermost", "between")


class Parents(SpanProcessor):
    """Keeps the parent of each span."""

    def __init__(self) -> None:
        self.of: dict[int, int] = {}

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Keep it."""
        if span.context:
            self.of[span.context.span_id] = span.parent.span_id if span.parent else 0

    def ours(self, span_id: int) -> int:
        """The nearest ancestor that is not one of these spans."""
        while span_id in self.of:
            span_id = self.of[span_id]
        return span_id


CONTRIB_PARENTS = Parents()
CONTRIB = TracerProvider(shutdown_on_exit=False)
CONTRIB.add_span_processor(CONTRIB_PARENTS)


def none(call: Call, position: str = "") -> bool:
    return False


@dataclass(frozen=True)
class Other:
    """An interceptor; `make` gives one, or a list of them, or a layer around a channel.

    `spans`: it makes spans, too, where ours may stand back. `stands_aside`: inside of ours it lets calls pass,
    so the same without ours is without it, too. `refuses`: it answers without asking what is inside of it.
    `stub`: it wraps the multi-callable instead. `method`: as what it makes ours record the method. `undecided`: the
    calls whose end ours cannot know in a position. `leaves_out`: those that cannot be made through it, with or
    without ours.
    """

    name: str
    make: Callable[[], Any] = list
    ends: tuple[str, ...] = tuple(ENDS)
    positions: tuple[str, ...] = POSITIONS
    spans: bool = False
    stands_aside: bool = False
    refuses: bool = False
    stub: Layer = same
    method: str = ""
    undecided: Callable[[Call, str], bool] = none
    leaves_out: Callable[[Call], bool] = none

    def layers(self) -> list[Any]:
        """Its interceptors, made for one server or channel."""
        made = self.make()
        return made if isinstance(made, list) else [made]

    def calls(self) -> list[Call]:
        """The calls that are made through it."""
        every = [Call(kind, end) for kind in KINDS for end in self.ends]
        return [
            call
            for call in every
            if (call.streams or call.end != "client leaves") and not self.leaves_out(call)
        ]
