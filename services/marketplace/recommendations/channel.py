"""The channel to recommendations: how calls are spread, tried again and given up, and over which wire."""

import json
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import grpc

from protobufs.recommendations_pb2_grpc import RecommendationsStub
from services.marketplace.config import Settings
from services.tls import Watched, channel

WATCH_S = 0.25  # gRPC's thread that watches ends within it; on a closed channel, it would raise

# Calls go to each of the service's addresses in turn. One that is UNAVAILABLE is tried again, at most twice
# and within its deadline, after a pause to which gRPC adds jitter. A failed call costs a token and one that
# succeeds gives one back: while fewer than half of the tokens are left, no call is tried again.
SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "healthCheckConfig": {"serviceName": "Recommendations"},
    "methodConfig": [
        {
            "name": [{"service": "Recommendations"}],
            "retryPolicy": {
                "maxAttempts": 3,
                "initialBackoff": "0.01s",
                "maxBackoff": "0.05s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
    "retryThrottling": {"maxTokens": 100, "tokenRatio": 1.0},  # gRPC's core reads a 1 as 0.001
}
OPTIONS = [
    ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
    ("grpc.max_receive_message_length", 256 * 1024),  # a page shows three titles
    # A host from which nothing comes is asked for a sign of life, and left when it gives none: within 4 s.
    ("grpc.keepalive_time_ms", 2000),
    ("grpc.keepalive_timeout_ms", 1500),  # TCP's user timeout, too
    ("grpc.http2.ping_timeout_ms", 1500),  # of gRPC's other pings: while one is out, there is no keepalive
    ("grpc.http2.max_pings_without_data", 0),  # no limit: the shop may have sent nothing
    ("grpc.dns_min_time_between_resolutions_ms", 1000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),  # despite its name, how long connecting may take
    ("grpc.max_reconnect_backoff_ms", 1000),
]


class Channel:
    """A channel for all threads with its stub. When the files for its TLS change, another takes its place."""

    def __init__(self, settings: Settings, interceptors: Sequence[Any]) -> None:
        self._target, self._tls = settings.recommendations_target, settings.recommendations_tls
        self._timeout_s = settings.recommendations_timeout_ms / 1e3
        self._interceptors = interceptors
        self._watched = Watched(self._tls) if self._tls else None
        self._replacing = threading.Lock()
        self._use(self._made())

    def stub(self) -> RecommendationsStub:
        """What calls are made with."""
        if self._watched is not None and self._replacing.acquire(blocking=False):
            try:
                self._look(self._watched)
            finally:
                self._replacing.release()
        return self._stub

    def reload_certificates(self) -> None:
        """Read the files of TLS at once, if calls are made over it."""
        if self._watched is not None:
            with self._replacing:
                self._look(self._watched, again=True)

    def close(self) -> None:
        """Close it, and cancel the calls that are under way."""
        self._channel.unsubscribe(self._watch)
        time.sleep(WATCH_S)
        self._channel.close()

    def _look(self, watched: Watched, again: bool = False) -> None:
        with suppress(OSError):  # the files have changed once more: the next look sees that
            if watched.is_new(again):
                self._replace(self._made())

    def _replace(self, new: grpc.Channel) -> None:
        """Calls that are under way end on the channel that they began on."""
        self._channel.unsubscribe(self._watch)
        closing = threading.Timer(self._timeout_s + WATCH_S, self._channel.close)
        closing.daemon = True
        self._use(new)
        closing.start()

    def _made(self) -> grpc.Channel:
        return channel(self._target, self._tls, OPTIONS)

    def _use(self, new: grpc.Channel) -> None:
        self.state = "IDLE"
        self._channel = new
        self._channel.subscribe(self._watch)
        self._stub = RecommendationsStub(grpc.intercept_channel(self._channel, *self._interceptors))  # type: ignore[no-untyped-call]

    def _watch(self, state: grpc.ChannelConnectivity) -> None:
        self.state = state.name
