import json
from pathlib import Path

import pytest

from tools.run import prometheus
from tools.run.ports import Port


def test_without_prometheus_the_words_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has no Prometheus learns why there is none."""
    monkeypatch.setenv("PATH", str(tmp_path))
    port = Port("PROMETHEUS_PORT", "127.0.0.1", 9090)
    assert prometheus.start(port, {}, tmp_path) == (None, "not started: not on PATH")


def test_each_service_is_a_job() -> None:
    """The configuration names each service's metrics under the service's name."""
    jobs = json.loads(prometheus.configuration({"marketplace": "127.0.0.1:9101"}))["scrape_configs"]
    assert jobs == [{"job_name": "marketplace", "static_configs": [{"targets": ["127.0.0.1:9101"]}]}]
