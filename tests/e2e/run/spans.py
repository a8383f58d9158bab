"""Spans and traces for the tests of the pair."""

from dataclasses import replace

from tools.traces.trace import Span

ROOT = Span(
    trace_id="aa",
    span_id="1",
    parent_id="",
    service="marketplace",
    name="GET /",
    status="200",
    failed=False,
    start_ns=0,
    end_ns=10_000_000,
)
CLIENT = replace(
    ROOT, span_id="2", parent_id="1", name="Recommend", status="OK", start_ns=2_000_000, end_ns=8_000_000
)
SERVER = replace(
    CLIENT, span_id="3", parent_id="2", service="recommendations", start_ns=4_000_000, end_ns=6_000_000
)
