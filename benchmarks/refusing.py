"""A server of gRPC alone that refuses every call but its first: the least that a refused call costs.

benchmarks.overload starts it, as `python -m benchmarks.refusing python` or `core`: who refuses.
"""

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

OPTIONS = {
    "python": [],
    "core": [("grpc.server.max_pending_requests", 0), ("grpc.server.max_pending_requests_hard_limit", 1)],
}


class Stuck(grpc.GenericRpcHandler):
    """Never done with its first call: all others are refused, by gRPC's core or by Python."""

    def __init__(self, where: str) -> None:
        self._stuck = threading.Event()
        self._where = where

    def service(self, _: grpc.HandlerCallDetails) -> Any:
        """What handles a call."""
        if self._where == "core":
            self._stuck.wait()  # the one thread that takes calls from gRPC's core
        return grpc.unary_unary_rpc_method_handler(lambda *_: self._stuck.wait())


def main() -> None:
    """Serve until killed."""
    where = sys.argv[1]
    pool = ThreadPoolExecutor(1)
    server = grpc.server(pool, handlers=[Stuck(where)], options=OPTIONS[where], maximum_concurrent_rpcs=1)
    server.add_insecure_port(f"127.0.0.1:{os.environ['RECOMMENDATIONS_PORT']}")
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
