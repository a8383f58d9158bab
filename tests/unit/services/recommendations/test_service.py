"""What recommendations answers, as the tutorial's tests ask it and over the wire."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from observability.testing import eventually
from protobufs.recommendations_pb2 import BookCategory, RecommendationRequest
from protobufs.recommendations_pb2_grpc import RecommendationsStub
from services.recommendations import RecommendationService
from services.recommendations.catalogue import CategoryNotFound, InvalidRequest
from services.recommendations.config import Settings
from services.recommendations.errors import to_status
from tests.unit.services.recommending import Running

ROOT = Path(__file__).parents[4]


def test_recommendations() -> None:
    """The tutorial's unit test, as written."""
    service = RecommendationService()
    request = RecommendationRequest(user_id=1, category=BookCategory.MYSTERY, max_results=1)
    response = service.Recommend(request, None)
    assert len(response.recommendations) == 1


@pytest.mark.parametrize(("asked", "given"), [(0, 0), (2, 2), (3, 3), (1000, 3)])
def test_no_repeats_and_at_most_what_was_asked(asked: int, given: int) -> None:
    """The books are of the category, each once, and no more than asked for; 0 gives none."""
    request = RecommendationRequest(category=BookCategory.SELF_HELP, max_results=asked)
    ids = [book.id for book in RecommendationService().Recommend(request, None).recommendations]
    assert len(set(ids)) == len(ids) == given
    assert set(ids) <= {7, 8, 9}


@pytest.mark.parametrize("field", ["user_id", "max_results"])
def test_negative_numbers_are_refused(field: str) -> None:
    """The domain error names the field, the value and what is allowed."""
    request = RecommendationRequest(**{field: -1})  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match=f"{field} must be 0 or more") as error:
        RecommendationService().Recommend(request, None)
    assert (error.value.field, error.value.value) == (field, -1)


def test_unknown_category_is_a_domain_error() -> None:
    """The service raises its own error, which knows nothing of gRPC; others are not mapped."""
    with pytest.raises(CategoryNotFound):
        RecommendationService().Recommend(RecommendationRequest(category=42), None)  # type: ignore[arg-type]
    assert to_status(ValueError()) is None


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    server = Running(Settings(recommendations_port=0, drain_s=0))
    yield server
    server.close()


@pytest.fixture
def channel(running: Running) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{running.port}") as made:
        yield made


def refused(channel: grpc.Channel, detail: Any, **fields: int) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as caught:
        RecommendationsStub(channel).Recommend(RecommendationRequest(**fields), timeout=10)  # type: ignore[arg-type, no-untyped-call]
    status = rpc_status.from_call(caught.value)  # type: ignore[arg-type]
    assert status
    assert status.details[0].Unpack(detail)
    assert caught.value.details() == status.message
    return caught.value.code()  # type: ignore[no-any-return]


def test_unknown_category_over_the_wire(channel: grpc.Channel) -> None:
    """NOT_FOUND, with the category and the known ones in google.rpc.ErrorInfo."""
    info = error_details_pb2.ErrorInfo()
    assert refused(channel, info, category=42, max_results=1) is grpc.StatusCode.NOT_FOUND
    assert info.reason == "CATEGORY_NOT_FOUND"
    assert dict(info.metadata) == {"category": "42", "known_categories": "MYSTERY,SCIENCE_FICTION,SELF_HELP"}


def test_negative_number_over_the_wire(channel: grpc.Channel) -> None:
    """INVALID_ARGUMENT, with field, value and what is allowed in google.rpc.BadRequest."""
    bad = error_details_pb2.BadRequest()
    assert refused(channel, bad, user_id=-7) is grpc.StatusCode.INVALID_ARGUMENT
    assert bad.field_violations[0].field == "user_id"
    assert bad.field_violations[0].description == "user_id must be 0 or more, got -7"


def test_health_and_reflection_are_on_and_quiet(channel: grpc.Channel, running: Running) -> None:
    """Both answer; their calls are counted, but neither traced nor logged."""
    health: Any = health_pb2_grpc.HealthStub(channel)
    answer = health.Check(health_pb2.HealthCheckRequest(service="Recommendations"))
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    reflection: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
    (listed,) = reflection.ServerReflectionInfo(iter([asked]))
    assert "Recommendations" in {service.name for service in listed.list_services_response.service}
    handled = running.telemetry.value
    eventually(lambda: handled("grpc_server_handled_total", grpc_method="ServerReflectionInfo") == 1)
    assert handled("grpc_server_handled_total", grpc_service="grpc.health.v1.Health") == 1
    assert not [line for line in running.telemetry.lines() if line["rpc.method"].startswith("grpc.")]
    assert not [span for span in running.telemetry.spans() if span.name.startswith("grpc.")]


TUTORIAL_CLIENT = """
import sys, grpc
sys.path.insert(0, sys.argv[2])
from recommendations_pb2 import BookCategory, RecommendationRequest
from recommendations_pb2_grpc import RecommendationsStub
channel = grpc.insecure_channel(sys.argv[1])
request = RecommendationRequest(user_id=1, category=BookCategory.SCIENCE_FICTION, max_results=3)
assert len(RecommendationsStub(channel).Recommend(request).recommendations) == 3
"""


def test_a_client_made_from_the_tutorials_file(running: Running, tmp_path: Path) -> None:
    """A client generated elsewhere from the same file calls the service."""
    proto = ROOT / "protobufs" / "recommendations.proto"
    protoc = [sys.executable, "-m", "grpc_tools.protoc", f"-I{proto.parent}", f"--python_out={tmp_path}"]
    subprocess.run([*protoc, f"--grpc_python_out={tmp_path}", proto.name], check=True)
    target = f"127.0.0.1:{running.port}"
    subprocess.run([sys.executable, "-c", TUTORIAL_CLIENT, target, str(tmp_path)], check=True)
