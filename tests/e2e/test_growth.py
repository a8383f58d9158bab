"""What docs/scale.md calculates with, of one instance of each service, is what running ones have."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from observability.testing import eventually
from tests.e2e.processes import ROOT, Pair, pair

DOCUMENT = (ROOT / "docs" / "scale.md").read_text()
PAGES = ("/", "/books", "/books/1", "/books/99999", "/none")
A_FIFTH = 0.2  # with the pages, the machine, and what was added since
LINES_OF_A_PAGE = {"marketplace": 2, "recommendations": 1}


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Pair]:
    with pair(tmp_path) as (both, _):
        yield both


def test_an_instance_has_as_many_series_and_lines(running: Pair) -> None:
    """Series after each kind of page and a probe, and lines of the home page, by number and length."""
    (lengths,) = re.findall(r"bytes of log lines .* measured: (\d+) and (\d+) \|", DOCUMENT)
    (series,) = re.findall(r"and a probe: (\d+) of the shop, (\d+) of recommendations", DOCUMENT)
    *_, headers = running.get("/")
    trace_id = headers["traceresponse"].split("-")[1]
    for service, length in zip(LINES_OF_A_PAGE, lengths, strict=True):
        log = getattr(running, service).log
        expected = LINES_OF_A_PAGE[service]
        found = eventually(partial(_lines, log, trace_id, expected))
        assert sum(map(len, found)) == pytest.approx(float(length), rel=A_FIFTH)
    for page in PAGES:
        running.get(page)
    probe = [sys.executable, str(ROOT / "services" / "recommendations" / "probe.py")]
    subprocess.run(probe, check=True, env=os.environ | running.variables)
    for service, number in zip(LINES_OF_A_PAGE, series, strict=True):
        text = running.scrape(service)
        found = [line for line in text.splitlines() if line and not line.startswith("#")]
        assert len(found) == pytest.approx(float(number), rel=A_FIFTH)


def _lines(log: Path, trace_id: str, expected: int) -> list[str]:
    found = [line for line in log.read_text().splitlines(keepends=True) if trace_id in line]
    return found if len(found) == expected else []
