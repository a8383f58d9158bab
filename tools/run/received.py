"""The traces of the services, received here: printed in the terminal, and served as a page."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from rich.console import Console

from services.ports import PortTaken
from tools.run.config import export_settings
from tools.run.page.kept import Kept
from tools.run.page.server import Page
from tools.run.ports import Port, require_free
from tools.run.terminal import TracePrinter
from tools.run.traces import Span, Traces, receiver


@contextmanager
def received(
    port: Port, metrics: Mapping[str, str], logs: Sequence[Path], shop: str, *, quiet: bool
) -> Iterator[tuple[dict[str, str], str]]:
    """Yield what the services' environment needs, and the words that say where the page is.

    port is the page's; metrics, logs and shop are what a Page needs. quiet: print no traces.
    """
    traces, kept = Traces(), Kept()

    def take(spans: Iterable[Span]) -> None:
        kept.add(spans)
        if not quiet:
            traces.add(spans)

    with ExitStack() as running:
        running.enter_context(
            closing(TracePrinter(traces, Console(highlight=False, markup=False, emoji=False)))
        )
        variables = export_settings(os.environ, running.enter_context(closing(receiver(take))).endpoint)
        try:
            require_free(port)
        except PortTaken as error:
            yield variables, f"not served: {error}"
            return
        running.enter_context(closing(Page(kept, port.host, port.number, metrics, logs, shop)))
        url = f"http://{port.address}"
        yield {"JAEGER_UI_URL": os.environ.get("JAEGER_UI_URL") or url, **variables}, url
