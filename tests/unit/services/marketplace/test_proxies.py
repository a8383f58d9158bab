"""The client that a chain of proxies reports, however it is written."""

import pytest
from flask import Flask, request

from services.marketplace.config import Settings
from services.marketplace.front import proxies
from services.settings import load

OURS = "10.0.0.0/8, 192.0.2.1,2001:db8::/32"


@pytest.mark.parametrize(
    ("peer", "reported", "client"),
    [
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "203.0.113.9:1234", "203.0.113.9"),
        ("10.0.0.1", "1.1.1.1, 203.0.113.9,10.2.3.4", "203.0.113.9"),
        ("10.0.0.1", "10.1.1.1, 10.2.3.4", "10.1.1.1"),
        ("10.0.0.1", "203.0.113.9, unknown, 10.2.3.4", "10.2.3.4"),
        ("10.0.0.1", "203.0.113.9, _hidden", "10.0.0.1"),
        ("10.0.0.1", "1.1.1.1, , 203.0.113.9,", "203.0.113.9"),
        ("2001:db8::1", "[2001:db9::7]:443", "2001:db9::7"),
        ("2001:db8::1", "2001:db9::7, 192.0.2.1", "2001:db9::7"),
        ("::ffff:10.0.0.1", "::ffff:203.0.113.9", "203.0.113.9"),
        ("192.0.2.2", "203.0.113.9", "192.0.2.2"),
        ("11.0.0.1", "203.0.113.9", "11.0.0.1"),
    ],
)
def test_who_the_client_is(peer: str, reported: str, client: str) -> None:
    """It is the last address that is not of a named proxy, if the peer is one; else it is the peer."""
    app = Flask("shop")
    app.add_url_rule("/", view_func=lambda: str(request.remote_addr))
    proxies.install(app, Settings(trusted_proxies=OURS).proxies)
    answer = app.test_client().get(
        "/", headers={"X-Forwarded-For": reported}, environ_base={"REMOTE_ADDR": peer}
    )
    assert answer.text == client


@pytest.mark.parametrize("wrong", ["gateway", "10.0.0.0/33", "10.0.0.1/8", "10.0.0.1 10.0.0.2", "*"])
def test_proxies_that_are_no_addresses(
    wrong: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are one line at the start."""
    monkeypatch.setenv("TRUSTED_PROXIES", wrong)
    with pytest.raises(SystemExit):
        load(Settings)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "TRUSTED_PROXIES must be addresses or networks such as 10.1.0.0/16, with commas between"
    )
    assert f", got {wrong!r}; " in line
