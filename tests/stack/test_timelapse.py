"""The time-lapse of the rules."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.e2e.processes import ROOT
from tests.stack.timelapse import faster, lasting

RULES = """
groups:
  - name: one
    interval: 1m
    rules:
      - record: job:errors:rate5m
        expr: >-
          job:errors:rate5m{path="/last/5m"} + rate(errors_total[5m] offset 1h30m)
          + max_over_time(up[1d:10s]) * 0.5 > 2m
      - alert: Bad
        expr: up == 0
        for: 30s
        keep_firing_for: 2m
        labels: {window: 5m}
"""


def test_every_duration_is_divided_and_nothing_else() -> None:
    """Ranges, offsets, subqueries, numbers of seconds, for and interval shrink; names, labels and numbers stay."""
    group = yaml.safe_load(faster(RULES, 10))["groups"][0]
    record, alert = group["rules"]
    assert group["interval"] == "6000ms"
    assert record["record"] == "job:errors:rate5m"
    assert record["expr"] == (
        'job:errors:rate5m{path="/last/5m"} + rate(errors_total[30000ms] offset 540000ms) '
        "+ max_over_time(up[8640000ms:1000ms]) * 0.5 > 12000ms"
    )
    assert (alert["for"], alert["keep_firing_for"]) == ("3000ms", "12000ms")
    assert alert["labels"] == {"window": "5m"}


def test_a_duration_that_would_vanish_is_refused() -> None:
    """A factor that leaves no millisecond of a duration is an error that says which one."""
    assert lasting("5s", 20) == "250ms"
    with pytest.raises(ValueError, match="5s divided by 1e\\+06"):
        lasting("5s", 1e6)


@pytest.mark.parametrize("factor", [1, 20, 60])
def test_prometheus_accepts_the_faster_rules(factor: float, tmp_path: Path) -> None:
    """promtool finds as many rules in the time-lapse of alerts.yml as in alerts.yml, and no fault."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("needs promtool; with it on PATH: make test-stack")
    original = ROOT / "alerts.yml"
    shorter = tmp_path / "alerts.yml"
    shorter.write_text(faster(original.read_text(), factor))
    outputs = [
        subprocess.run([promtool, "check", "rules", file], capture_output=True, text=True, check=True).stdout
        for file in (original, shorter)
    ]
    assert outputs[0].split("SUCCESS")[1] == outputs[1].split("SUCCESS")[1]
