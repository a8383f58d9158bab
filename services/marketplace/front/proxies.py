"""The proxies before the shop: what those that the operator names report of a client is believed.

They are named by address, not counted: a count would believe anybody who reaches the shop without a proxy.
werkzeug's ProxyFix counts, takes any text for an address or a scheme, and leaves the proxy's port in place.
"""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from flask import Flask

Address = IPv4Address | IPv6Address
Proxies = tuple[IPv4Network | IPv6Network, ...]
PORTS = {"http": "80", "https": "443"}


def install(app: "Flask", proxies: Proxies) -> None:
    """Let the application see the client, where one of these proxies reports it."""
    if proxies:
        app.wsgi_app = _Believing(app.wsgi_app, proxies)  # type: ignore[method-assign]


def is_one(proxies: Proxies, text: str) -> bool:
    """Whether the address is of one of the proxies."""
    address = _address(text)
    return address is not None and any(address in network for network in proxies)


class _Believing:
    def __init__(self, wsgi_app: "WSGIApplication", proxies: Proxies) -> None:
        self._wsgi_app, self._proxies = wsgi_app, proxies

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        if is_one(self._proxies, environ["REMOTE_ADDR"]):
            self._believe(environ)
        return self._wsgi_app(environ, start_response)

    def _believe(self, environ: "WSGIEnvironment") -> None:
        if client := self._client(_values(environ, "FOR")):
            environ["REMOTE_ADDR"] = client
            environ.pop("REMOTE_PORT", None)  # the proxy's
        scheme = "".join(_values(environ, "PROTO")[-1:]).lower()
        if scheme in PORTS:
            environ["wsgi.url_scheme"], environ["SERVER_PORT"] = scheme, PORTS[scheme]
        if hosts := _values(environ, "HOST"):
            environ["HTTP_HOST"] = hosts[-1]

    def _client(self, reported: list[str]) -> str:
        """The last reported address that is not of a proxy: what is before it may have been made up."""
        client = ""
        for text in reversed(reported):
            address = _address(text)
            if address is None:
                break
            client = str(address)
            if not is_one(self._proxies, client):
                break
        return client


def _values(environ: "WSGIEnvironment", name: str) -> list[str]:
    """The values of X-Forwarded-NAME, of which each proxy adds the last or writes the only one."""
    values = environ.get(f"HTTP_X_FORWARDED_{name}", "").split(",")
    return [value.strip() for value in values if value.strip()]


def _address(text: str) -> Address | None:
    """The address, which may have a port behind it."""
    host, colon, port = text.rpartition(":")
    if colon and port.isdecimal() and (host.startswith("[") or ":" not in host):
        text = host
    try:
        address = ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
