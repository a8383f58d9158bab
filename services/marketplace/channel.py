"""The channel to recommendations: how calls are spread, tried again and given up, and over which wire."""

import json

import grpc

from services.marketplace.config import Settings
from services.tls import channel

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
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
]


def connect(settings: Settings) -> grpc.Channel:
    """A channel for all threads, over TLS if the settings name a CA."""
    return channel(settings.recommendations_target, settings.recommendations_tls, OPTIONS)
