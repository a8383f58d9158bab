"""What a page meets before and behind the shop's own code: the front door, the database, the circuit."""

from grafana import colours
from grafana.board import Row
from grafana.panels import HALF, Query, graph

SHOP = '{job=~"$service"}'


def front() -> Row:
    """The row of the home dashboard."""

    def rate(by: str, series: str) -> str:
        return f"sum by ({by}) (rate({series}{SHOP}[$__rate_interval]))"

    return "The front door, the database and the circuit", [
        graph(
            "Connections and waiting requests",
            "Connections of clients, idle or not, and requests that wait for a thread. Waiting requests mean "
            "that all threads are busy: docs/runbooks/Saturation.md.",
            "none",
            Query(f"sum by (job) (marketplace_connections{SHOP})", "connections"),
            Query(f"sum by (job) (marketplace_requests_waiting{SHOP})", "waiting"),
            shades=colours.DOOR,
            width=HALF,
        ),
        graph(
            "Refused at the front door",
            "Requests and connections per second that were turned away before a page was begun, by reason. "
            "queue_full and waited: docs/runbooks/RequestsRefused.md. The others are the client's mistake.",
            "reqps",
            Query(f"{rate('reason', 'marketplace_requests_refused_total')} > 0", "{{reason}}"),
            shades=colours.REFUSALS,
            width=HALF,
            empty="none is refused: good",
        ),
        graph(
            "Database",
            "1: it answers, and has the books of the feed. Pages are refused (503) at once while it is away: "
            "docs/runbooks/DatabaseDown.md.",
            "none",
            Query(f"min by (job) (marketplace_database_up{SHOP})", "database answers"),
            Query(f"min by (job) (marketplace_feed_loaded{SHOP})", "feed loaded"),
            Query(rate("job", "marketplace_database_refused_total"), "pages refused a second"),
            shades=colours.DATABASE,
            width=HALF,
            top=1,
        ),
        graph(
            "Kept recommendations and changes of the circuit",
            "Pages per second that showed kept recommendations in place of new ones, and how often "
            "the circuit opened and closed: docs/runbooks/RecommendationsCircuitOpen.md.",
            "ops",
            Query(rate("job", "marketplace_recommendations_kept_total"), "kept"),
            Query(rate("state", "marketplace_recommendations_circuit_changes_total"), "circuit {{state}}"),
            shades=colours.CIRCUIT,
            width=HALF,
        ),
    ]
