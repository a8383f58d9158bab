"""What people do in the shop: a locustfile.

LOAD_RATE people a second arrive, until there are LOAD_RATE x 10. Each opens a page every ten seconds,
whether the last one was quick or slow, and gives up on it after five. So LOAD_RATE pages a second are
requested, however slow the shop is.

LOAD_ENTRY is the address of entry, if it should be watched: no page needs it, and it counts nothing itself.
It begins with tls:// if recommendations speaks TLS, for which people have no certificate.
"""

import os
import random
import socket
from http import HTTPStatus
from typing import Any

import gevent
from locust import FastHttpUser, constant_pacing, events, task
from prometheus_client import Counter, Gauge, Histogram, start_http_server

METRICS_PORT = 9103
PACE_S = 10
PATIENCE_S = 5.0
CATEGORIES = ("MYSTERY", "SCIENCE_FICTION", "SELF_HELP")
BOOK_IDS = range(1, 10)  # of the feed that comes with the services
RATE = float(os.environ.get("LOAD_RATE") or 5)
ENTRY = os.environ.get("LOAD_ENTRY", "")
TLS = "tls://"
WATCH_S = 5
KEPT_S = 1.0
SETTINGS = b"\x04"  # the type of the frame that HTTP/2 begins with, on both sides
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0" + SETTINGS + b"\0\0\0\0\0"

requests = Counter(
    "load_requests_total", "Pages asked for, by kind and HTTP status (0: no answer).", ["name", "code"]
)
durations = Histogram("load_request_duration_seconds", "How long people waited, by kind of page.", ["name"])


@events.init.add_listener
def begin(environment: Any, **_: Any) -> None:
    """Serve /metrics, and let locust know how many people the rate needs."""
    start_http_server(METRICS_PORT)
    environment.parsed_options.num_users = max(1, round(RATE * PACE_S))
    environment.parsed_options.spawn_rate = RATE
    if ENTRY:
        gevent.spawn(watch, *ENTRY.removeprefix(TLS).rsplit(":", 1))


def watch(host: str, port: str) -> None:
    """See every few seconds whether recommendations answers through entry."""
    up = Gauge("load_entry_up", "1 if recommendations answers through entry, 0 if it does not.")
    while True:
        up.set(answers(host, int(port)))
        gevent.sleep(WATCH_S)


def answers(host: str, port: int) -> bool:
    """Whether somebody speaks HTTP/2 there, or waits for a client to begin with TLS."""
    try:
        with socket.create_connection((host, port), PATIENCE_S) as connection:
            if ENTRY.startswith(TLS):
                return waits(connection)
            connection.sendall(PREFACE)
            return connection.makefile("rb").read(4).endswith(SETTINGS)
    except OSError:
        return False


def waits(connection: socket.socket) -> bool:
    """Whether it stays open while nothing is sent."""
    connection.settimeout(KEPT_S)
    try:
        return connection.recv(1) != b""
    except TimeoutError:
        return True


@events.request.add_listener
def count(name: str, response_time: float, response: Any, **_: Any) -> None:
    """Count a page; response_time is in milliseconds."""
    requests.labels(name, getattr(response, "status_code", 0)).inc()
    durations.labels(name).observe(response_time / 1e3)


class Person(FastHttpUser):
    """Somebody who looks around."""

    wait_time = constant_pacing(PACE_S)
    connection_timeout = network_timeout = PATIENCE_S
    # Ten seconds are longer than the shop keeps a connection, so that each page has its own.
    default_headers = {"Connection": "close"}  # noqa: RUF012 (locust's own way to say it)

    def on_start(self) -> None:
        """Spread the arrivals: not everybody comes at the same moment."""
        gevent.sleep(random.random())

    @task(20)
    def home(self) -> None:
        """The first page."""
        self.client.get("/", name="home")

    @task(39)
    def category(self) -> None:
        """Another category."""
        self.client.get(f"/?category={random.choice(CATEGORIES)}", name="category")

    @task(20)
    def books(self) -> None:
        """The list of all books."""
        self.client.get(f"/books?category={random.choice(CATEGORIES)}", name="books")

    @task(20)
    def book(self) -> None:
        """A book."""
        self.client.get(f"/books/{random.choice(BOOK_IDS)}", name="book")

    @task(1)
    def unknown_category(self) -> None:
        """A category that is not there: NOT_FOUND is the right answer."""
        with self.client.get("/?category=42", name="unknown category", catch_response=True) as response:
            if response.status_code == HTTPStatus.NOT_FOUND:
                response.success()
