"""From an alert to a person: called once, about what, and when it is over."""

import signal
from pathlib import Path

import pytest

from observability.testing import eventually
from tests.e2e.processes import pair
from tests.stack.notifier import needs_alertmanager, notifier
from tests.stack.scraper import PROGRAM, Prometheus

SHOP, BOOKS, JAEGER = "marketplace", "recommendations", "jaeger"


def alert(name: str, job: str, severity: str = "page") -> dict[str, str]:
    return {"alertname": name, "job": job, "severity": severity}


@needs_alertmanager
@pytest.mark.parametrize(
    ("alerts", "messages"),
    [
        pytest.param(
            [alert("Saturation", SHOP), alert("PagesLatencyBurn", SHOP)],
            [(SHOP, {"Saturation", "PagesLatencyBurn"})],
            id="two of one service are one message",
        ),
        pytest.param(
            [alert("Saturation", SHOP), alert("Saturation", BOOKS)],
            [(SHOP, {"Saturation"}), (BOOKS, {"Saturation"})],
            id="two services are two messages",
        ),
        pytest.param(
            [alert("Saturation", SHOP), alert("MemoryGrowth", SHOP, "ticket")],
            [(SHOP, {"Saturation"})],
            id="a page makes a ticket needless",
        ),
        pytest.param(
            [alert("Saturation", SHOP), alert("MemoryGrowth", BOOKS, "ticket")],
            [(SHOP, {"Saturation"}), (BOOKS, {"MemoryGrowth"})],
            id="but not that of another service",
        ),
        pytest.param(
            [
                alert("ServiceDown", BOOKS),
                alert("Saturation", BOOKS),
                alert("RecommendationsDegraded", SHOP),
                alert("EntryDown", "entry", "ticket"),
            ],
            [(BOOKS, {"ServiceDown"})],
            id="what follows from a service that is down",
        ),
        pytest.param(
            [alert("ServiceDown", BOOKS), alert("PagesAvailabilityBurn", SHOP)],
            [(BOOKS, {"ServiceDown"}), (SHOP, {"PagesAvailabilityBurn"})],
            id="pages that fail do not follow from it",
        ),
        pytest.param(
            [alert("StackPartDown", JAEGER, "ticket"), alert("ExporterFailing", SHOP, "ticket")],
            [(JAEGER, {"StackPartDown"})],
            id="spans that Jaeger cannot take",
        ),
        pytest.param(
            [alert("Watchdog", "prometheus", "none"), alert("Saturation", SHOP)],
            [(SHOP, {"Saturation"})],
            id="the watchdog calls nobody",
        ),
    ],
)
def test_who_is_called_about_what(
    alerts: list[dict[str, str]], messages: list[tuple[str, set[str]]], tmp_path: Path
) -> None:
    """The webhook gets these messages, each once, and no other; Alertmanager's page shows all alerts."""
    with notifier(tmp_path) as (alertmanager, webhook):
        alertmanager.post(*alerts)
        eventually(lambda: len(webhook.said("firing")) >= len(messages), 30)
        # One more message of a service that nothing is about: what came before it is all there is.
        alertmanager.post(alert("Last", "last"))
        eventually(lambda: ("last", {"Last"}) in webhook.said("firing"), 30)
        said = [message for message in webhook.said("firing") if message[0] != "last"]
        assert sorted(said, key=str) == sorted(messages, key=str)
        assert alertmanager.shown() == {one["alertname"] for one in alerts} | {"Last"}


@needs_alertmanager
def test_nobody_is_called_by_default(tmp_path: Path) -> None:
    """Without ALERT_WEBHOOK_URL no receiver has an alert; its page shows it."""
    with notifier(tmp_path, called=False) as (alertmanager, webhook):
        assert alertmanager.receivers() == "nobody"
        alertmanager.post(alert("Saturation", SHOP))
        eventually(lambda: alertmanager.shown() == {"Saturation"}, 30)
        assert webhook.messages == []
    with notifier(tmp_path) as (alertmanager, _):
        assert alertmanager.receivers() == "webhook"


@needs_alertmanager
@pytest.mark.skipif(PROGRAM is None, reason="needs Prometheus; with it on PATH: make test-stack")
def test_a_service_that_stops_calls_somebody_once(tmp_path: Path) -> None:
    """From the stop of recommendations to the webhook: one message, one more when it is back, and no other."""
    with pair(tmp_path) as (both, _), notifier(tmp_path) as (alertmanager, webhook):
        prometheus = Prometheus(tmp_path, both.metrics, alertmanager=alertmanager.address)
        try:
            eventually(lambda: len(prometheus.query("up == 1")) == 2, 30)
            # A machine that is slow may have its first scrape late.
            eventually(lambda: not prometheus.query('ALERTS{alertname="ServiceDown"}'), 60)
            both.recommendations.stop(signal.SIGKILL)
            degraded = 'ALERTS{alertname="RecommendationsDegraded", alertstate="firing"}'
            eventually(lambda: both.get("/") and prometheus.query(degraded), 60)
            eventually(lambda: (BOOKS, {"ServiceDown"}) in webhook.said("firing"), 60)
            both.recommendations = both.start("recommendations")
            eventually(lambda: both.get("/") and (BOOKS, {"ServiceDown"}) in webhook.said("resolved"), 60)
            # Of the shop there may be a message about that late scrape.
            assert [
                said for said in webhook.said("firing") if said[1] != {"ServiceDown"} or said[0] == BOOKS
            ] == [(BOOKS, {"ServiceDown"})]
        finally:
            prometheus.close()
