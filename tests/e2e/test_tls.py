"""TLS between the services as processes: who is refused and why, and new certificates without a failed call."""

import datetime
import json
import re
import signal
import socket
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest

from observability.testing import eventually
from protobufs.recommendations_pb2 import RecommendationRequest
from protobufs.recommendations_pb2_grpc import RecommendationsStub
from tests.crowd import Crowd
from tests.e2e.processes import PATIENT, Pair, Service, free_ports, get, pair
from tools.certs import SERVICES, VARIABLES, Authority

DAY = datetime.timedelta(days=1)
REFUSED = r'tls_handshakes_refused_total{reason="(\w+)"} (\S+)'


def lines(service: Service) -> list[dict[str, Any]]:
    return [json.loads(line) for line in service.log.read_text().rpartition("\n")[0].splitlines()]


def refused(text: str) -> dict[str, float]:
    """The handshakes that were refused, by reason, of what /metrics says."""
    return {reason: float(count) for reason, count in re.findall(REFUSED, text)}


class Place:
    """A CA, the files of both services, and the variables that name them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.renew()
        self.variables = {name: str(folder / file) for name, file in VARIABLES.items()}

    def renew(self) -> None:
        """Another CA, with files of its own: all change at once, as a Secret's do in Kubernetes."""
        self.authority = Authority()
        version = Path(tempfile.mkdtemp(dir=self._folder.parent))
        self.authority.write(version)
        link = version.with_suffix(".link")
        link.symlink_to(version)
        link.replace(self._folder)

    def put(self, service: str, *names: str, authority: Authority | None = None, **how: Any) -> None:
        """Another certificate for the service."""
        key, certificate = (authority or self.authority).issue(*names, **how)
        (self._folder / f"{service}.key").write_bytes(key)
        (self._folder / f"{service}.pem").write_bytes(certificate)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("tls") / "certs")


def call(port: int, credentials: grpc.ChannelCredentials | None) -> None:
    """Call recommendations, which refuses."""
    target, options = f"localhost:{port}", [("grpc.use_local_subchannel_pool", 1)]
    made = grpc.secure_channel(target, credentials, options) if credentials else grpc.insecure_channel(target)
    with made as channel, pytest.raises(grpc.RpcError) as error:
        RecommendationsStub(channel).Recommend(RecommendationRequest(max_results=3), timeout=5)
    assert error.value.code() is grpc.StatusCode.UNAVAILABLE


def old_version(port: int) -> None:
    context = ssl.create_default_context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    shake_hands(port, context)


def distrustful(port: int) -> None:
    context = ssl.create_default_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # the server cannot read what it is sent by 1.3
    shake_hands(port, context)


def shake_hands(port: int, context: ssl.SSLContext) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain, suppress(OSError):
        context.wrap_socket(plain, server_hostname="localhost").close()


def test_who_is_refused_is_counted_with_the_reason(place: Place, tmp_path: Path) -> None:
    """Each kind of client that is no friend is one line of JSON and one more of its reason; stderr stays empty."""
    own, others = place.authority, Authority()

    def shown(*pair: bytes) -> Callable[[int], None]:
        return lambda port: call(port, grpc.ssl_channel_credentials(own.pem, *pair))

    clients: dict[str, Callable[[int], None]] = {
        "no_certificate": shown(),
        "unknown_ca": shown(*others.issue("marketplace")),
        "expired": shown(*own.issue("marketplace", lasts=-DAY)),
        "not_yet_valid": shown(*own.issue("marketplace", begins=DAY)),
        "protocol_version": old_version,
        "not_tls": lambda port: call(port, None),
        "refused_by_peer": distrustful,
    }
    port, metrics = free_ports(2)
    ports = {"RECOMMENDATIONS_PORT": str(port), "RECOMMENDATIONS_METRICS_PORT": str(metrics)}
    service = Service("recommendations", tmp_path, **place.variables, **ports)
    try:

        def counted() -> dict[str, float]:
            return refused(get(f"http://127.0.0.1:{metrics}/metrics")[1])

        eventually(lambda: "serving on port" in service.log.read_text(), 30)
        expected = dict.fromkeys((*clients, "wrong_name", "other"), 0.0)
        assert counted() == expected
        for reason, come in clients.items():
            come(port)
            eventually(lambda: counted() != expected)  # noqa: B023
            got = counted()
            assert got[reason] >= 1, reason  # a client of gRPC's may try again
            assert {name for name in got if got[name] != expected[name]} == {reason}
            expected = got
        assert service.stop() == 0
        warned = [line for line in lines(service) if line["event"].startswith("TLS handshake refused")]
        assert {line["reason"] for line in warned} == set(clients)
        assert len(warned) == sum(expected.values())
        assert all(line["level"] == "warn" and "Handshake failed" in line["details"] for line in warned)
        assert service.errors.read_text() == ""
    finally:
        service.process.kill()
        service.process.wait()


@pytest.fixture(scope="module")
def both(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with pair(tmp_path_factory.mktemp("pair"), **place.variables, RECOMMENDATIONS_TIMEOUT_MS="10000") as (
        running,
        _,
    ):
        yield running


def test_the_shop_says_why_it_refuses(both: Pair, place: Place) -> None:
    """Whatever is wrong with recommendations' certificate: pages go on without, and count and name the reason."""
    names = SERVICES["recommendations"]

    def degraded(reason: str) -> float:
        counted = rf'recommendations_degraded_total{{reason="TLS_{reason.upper()}"}} (\S+)'
        (found,) = re.findall(counted, both.scrape("marketplace"))
        return float(found)

    def goes_without(reason: str, before: float) -> bool:
        page = both.get("/?category=SELF_HELP")[1]
        return degraded(reason) > before and "Recommendations are not available now" in page

    wrong: dict[str, Callable[[], None]] = {
        "expired": lambda: place.put("recommendations", *names, lasts=-DAY),
        "wrong_name": lambda: place.put("recommendations", "elsewhere"),
        "unknown_ca": lambda: place.put("recommendations", *names, authority=Authority()),
    }
    for reason, put in wrong.items():
        before = degraded(reason)
        put()
        both.marketplace.process.send_signal(signal.SIGHUP)  # it connects again, and meets the new one
        eventually(partial(goes_without, reason, before), 30)
    said = {line["event"] for line in lines(both.marketplace)}
    for reason in ("expired", "unknown_ca"):  # core does not log a wrong name
        assert refused(both.scrape("marketplace"))[reason] > 0
        assert f"TLS handshake refused: {reason}" in said
    assert "page without recommendations: TLS_WRONG_NAME" in said
    assert both.marketplace.errors.read_text() == ""
    place.put("recommendations", *names)
    eventually(lambda: both.get("/")[1].count("<li>") == 3, 20)


def failed_calls(running: Pair) -> list[str]:
    return [
        line
        for side in ("marketplace", "recommendations")
        for line in running.scrape(side).splitlines()
        if re.match(r"grpc_(client|server)_handled_total\{.*Recommend", line)
        and 'grpc_code="OK"' not in line
        and not line.endswith(" 0.0")
    ]


def test_a_hang_up_is_new_certificates_and_no_failed_call(both: Pair, place: Place) -> None:
    """Under load, both services read the same files, then a new CA's, at SIGHUP: no call fails, none starts again."""
    services = both.marketplace, both.recommendations

    def read_again(service: Service) -> int:
        return sum(str(line["event"]).startswith("read again") for line in lines(service))

    already = failed_calls(both)  # NOT_FOUND, of the pair's own check
    crowd = Crowd(int(both.url.rpartition(":")[2]), 4)
    try:
        for change in (lambda: None, place.renew, lambda: None):
            change()
            for service in services:
                before, pages = read_again(service), len(crowd.pages)
                service.process.send_signal(signal.SIGHUP)
                eventually(lambda: read_again(service) > before, 30)  # noqa: B023
                eventually(lambda: len(crowd.pages) > pages + 10, 30)  # noqa: B023
    finally:
        crowd.close()
    assert {page.status for page in crowd.pages} == {200}
    assert failed_calls(both) == already


def test_a_hang_up_does_nothing_without_tls(tmp_path: Path) -> None:
    """No service ends, and none speaks of certificates."""
    with pair(tmp_path, **PATIENT) as (running, _):
        services = running.marketplace, running.recommendations
        for service in services * 3:
            service.process.send_signal(signal.SIGHUP)
            time.sleep(0.05)
        assert running.get("/")[1].count("<li>") == 3
        for service in services:
            assert service.stop() == 0
            assert "read again" not in service.log.read_text()
            assert service.errors.read_text() == ""
