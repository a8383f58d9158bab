"""The shop as a process without recommendations, and what people see of it while its database fails."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from observability.testing import eventually
from tests.e2e.processes import Service, free_ports, get

LISTS = ("/books", "/books/5", "/books?q=the")


class Shop:
    """The shop alone, with a database in the directory; recommendations are away."""

    def __init__(self, directory: Path, **variables: str) -> None:
        port, self._metrics, nobody = free_ports(3)
        self.url = f"http://127.0.0.1:{port}"
        self.service = Service(
            "marketplace",
            directory,
            MARKETPLACE_PORT=str(port),
            MARKETPLACE_METRICS_PORT=str(self._metrics),
            RECOMMENDATIONS_PORT=str(nobody),
            DRAIN_S="0",
            **{"DATABASE_URL": f"sqlite:///{directory}/books.sqlite3"} | variables,
        )
        eventually(lambda: self.status("/livez") == 200, 30)

    def status(self, path: str) -> int:
        return get(self.url + path)[0]

    def metrics(self) -> str:
        return get(f"http://127.0.0.1:{self._metrics}/metrics")[1]

    def close(self) -> None:
        assert self.service.stop() == 0


def assert_polite(shop: Shop) -> None:
    """While the database fails, the list is 503 with Retry-After; home and /livez are well, /readyz is honest."""
    with ThreadPoolExecutor(40) as people:
        statuses = set(people.map(shop.status, [*LISTS, "/", "/livez"] * 40))
    assert statuses == {200, 503}
    for path in LISTS:
        status, page, headers = get(shop.url + path)
        assert (status, headers["Retry-After"]) == (503, "1")
        assert "Please try again in a moment" in page
    assert (shop.status("/"), shop.status("/livez")) == (200, 200)
    status, body, _ = get(f"{shop.url}/readyz")
    assert (status, json.loads(body)["database"]) == (503, "failed")
    assert "marketplace_database_up 0.0" in shop.metrics()


def assert_well(shop: Shop) -> None:
    """It recovers by itself."""
    eventually(lambda: shop.status("/readyz") == 200)
    eventually(lambda: [shop.status(path) for path in LISTS] == [200] * len(LISTS))
    assert "marketplace_database_up 1.0" in shop.metrics()
