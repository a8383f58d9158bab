"""The image's health check: exits 0 when recommendations, on this machine, says that it serves.

A client like the shop, with the same settings for TLS. It imports no other module, because it starts often.
"""

import os
import sys
from pathlib import Path

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

TIMEOUT_S = 2.0


def main() -> int:
    """Ask once."""
    target = f"127.0.0.1:{os.environ.get('RECOMMENDATIONS_PORT') or 50051}"
    with _channel(target) as channel:
        check = HealthStub(channel).Check  # type: ignore[attr-defined]
        try:
            answer = check(HealthCheckRequest(), timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            sys.stderr.write(f"{target}: {error.code().name}\n")
            return 1
    return int(answer.status != HealthCheckResponse.SERVING)


def _channel(target: str) -> grpc.Channel:
    ca, key, cert = (_content(f"RECOMMENDATIONS_{name}_FILE") for name in ("CA", "KEY", "CERT"))
    if ca is None:
        return grpc.insecure_channel(target)
    name = os.environ.get("RECOMMENDATIONS_HOST") or "localhost"
    credentials = grpc.ssl_channel_credentials(ca, key, cert)
    return grpc.secure_channel(target, credentials, [("grpc.ssl_target_name_override", name)])


def _content(variable: str) -> bytes | None:
    file = os.environ.get(variable)
    return Path(file).read_bytes() if file else None


if __name__ == "__main__":
    sys.exit(main())
