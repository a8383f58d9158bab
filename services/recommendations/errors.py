"""The one place where domain errors become gRPC statuses.

Format: https://google.aip.dev/193
"""

from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from services.recommendations.catalogue import KNOWN, CategoryNotFound, InvalidRequest

DOMAIN = "bookshop.example"


def to_status(error: Exception) -> status_pb2.Status | None:
    """The google.rpc.Status of a domain error; None for any other exception."""
    match error:
        case CategoryNotFound():
            info = error_details_pb2.ErrorInfo(reason="CATEGORY_NOT_FOUND", domain=DOMAIN)
            info.metadata.update(category=str(error.category), known_categories=",".join(KNOWN))
            return _status(code_pb2.NOT_FOUND, error, info)
        case InvalidRequest():
            wrong = f"{error.field} must be {error.allowed}, got {error.value}"
            violation = error_details_pb2.BadRequest.FieldViolation(field=error.field, description=wrong)
            bad_request = error_details_pb2.BadRequest(field_violations=[violation])
            return _status(code_pb2.INVALID_ARGUMENT, error, bad_request)
    return None


def _status(code: int, error: Exception, detail: Message) -> status_pb2.Status:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return status_pb2.Status(code=code, message=str(error), details=[packed])
