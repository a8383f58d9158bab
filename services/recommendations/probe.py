"""The image's health check: exits 0 when recommendations, on this machine, says that it serves."""

import os
import sys

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

TIMEOUT_S = 2.0


def main() -> int:
    """Ask once."""
    target = f"127.0.0.1:{os.environ.get('RECOMMENDATIONS_PORT') or 50051}"
    with grpc.insecure_channel(target) as channel:
        check = HealthStub(channel).Check  # type: ignore[attr-defined]
        try:
            answer = check(HealthCheckRequest(), timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            sys.stderr.write(f"{target}: {error.code().name}\n")
            return 1
    return int(answer.status != HealthCheckResponse.SERVING)


if __name__ == "__main__":
    sys.exit(main())
