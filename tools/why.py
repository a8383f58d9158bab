"""Why was a trace slow, or why did it fail? ``python -m tools.why TRACE``, of `make run` or of the stack."""

import argparse
import sys
from collections import defaultdict
from urllib.parse import quote

from services.marketplace.config import Settings as Marketplace
from services.settings import load
from tools.doctor.config import Settings
from tools.jaeger import Jaeger
from tools.prometheus import Prometheus
from tools.traces.lines import Line, of_store
from tools.traces.methods import NAMES, Method, Place, methods, place_of
from tools.traces.trace import Trace
from tools.traces.usual import usual_of
from tools.traces.why import report, why
from tools.web import ask

OK = 200
WINDOW_S = 3600  # before the trace, in which what is usual is counted


def main() -> int:
    """Print why; the exit code is 1 when there is no such trace, and 2 when there is nobody to be asked."""
    parser = argparse.ArgumentParser(prog="python -m tools.why", description="Say why a trace was slow.")
    parser.add_argument("trace", metavar="TRACE", help="its id, as in the foot of the shop's pages")
    trace_id = parser.parse_args().trace.strip().lower()
    settings, shop = load(Settings), load(Marketplace)
    page = f"http://127.0.0.1:{settings.traces_port}"
    jaeger = str(shop.jaeger_ui_url or f"http://127.0.0.1:{settings.jaeger_ui_port}").rstrip("/")
    unknown, silent = [], []
    for url in (page, jaeger):
        try:
            text = _of_run(url, trace_id) if url == page else _of_stack(Jaeger(url), settings, trace_id)
        except OSError as error:
            silent.append(f"{url} does not answer ({error})")
            continue
        if text:
            sys.stdout.write(text)
            return 0
        unknown.append(f"{url} has no trace {trace_id}")
    todo = "the oldest go" if unknown else "start make run or docker compose up --wait"
    sys.stderr.write(f"{'; '.join([*unknown, *silent])}: {todo}\n")
    return 1 if unknown else 2


def _of_run(url: str, trace_id: str) -> str:
    """What the page of `make run` says; nothing where it does not have the trace."""
    answer = ask(f"{url}/trace/{quote(trace_id, safe='')}/why")
    return answer.text if answer.status == OK else ""


def _of_stack(jaeger: Jaeger, settings: Settings, trace_id: str) -> str:
    """The same from Jaeger, Prometheus and the log store, of which the last two may be missing."""
    spans = jaeger.spans(trace_id)
    if not spans:
        return ""
    prometheus = Prometheus(f"http://127.0.0.1:{settings.prometheus_port}")
    store = f"http://127.0.0.1:{settings.logs_port}"
    known: list[Method] = []
    lines: list[Line] = []
    try:
        known = _before(prometheus, Trace(spans))
    except OSError as error:
        sys.stderr.write(f"{prometheus.url} does not answer ({error}): what is usual is not known\n")
    try:
        lines = of_store(store, trace_id)
    except OSError as error:
        sys.stderr.write(f"{store} does not answer ({error}): the services' own logs have the lines\n")
    return report(why(spans, usual_of(known)), lines)


def _before(prometheus: Prometheus, trace: Trace) -> list[Method]:
    """What the methods of its services were in the hour until it began: the same whenever somebody asks."""
    grown: defaultdict[Place, float] = defaultdict(float)
    jobs = "|".join(trace.services)
    for name in NAMES:
        series = f'increase({name}{{job=~"{jobs}"}}[{WINDOW_S}s])'
        for found in prometheus.query(series, trace.start_ns / 1e9):
            grown[place_of(found["metric"]["job"], name, found["metric"])] += float(found["value"][1])
    return methods(grown, WINDOW_S)


if __name__ == "__main__":
    sys.exit(main())
