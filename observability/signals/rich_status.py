"""The google.rpc.Status that a server may send beside the plain one.

Format: https://google.aip.dev/193
"""

from google.rpc import error_details_pb2, status_pb2

from observability.call import Metadata

KEY = "grpc-status-details-bin"


def error_info(trailers: Metadata) -> tuple[str, str] | None:
    """Reason and domain of the first google.rpc.ErrorInfo in the trailing metadata, if there is one."""
    for key, value in trailers or ():
        if key == KEY and isinstance(value, bytes):
            info = error_details_pb2.ErrorInfo()
            for detail in status_pb2.Status.FromString(value).details:
                if detail.Unpack(info):
                    return info.reason, info.domain
    return None
