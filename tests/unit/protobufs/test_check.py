"""A change of the proto that would break clients generated from the tutorial's is refused."""

from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from grpc_tools import protoc  # type: ignore[import-untyped]

from protobufs.check import breaks

PROTO = (Path(__file__).parents[3] / "protobufs" / "recommendations.proto").read_text()


def compiled(text: str, folder: Path) -> FileDescriptorProto:
    """The descriptor that protoc makes of the text."""
    (folder / "changed.proto").write_text(text)
    out = folder / "descriptor"
    assert protoc.main(["protoc", f"-I{folder}", f"--descriptor_set_out={out}", "changed.proto"]) == 0
    return FileDescriptorSet.FromString(out.read_bytes()).file[0]


def test_the_file_as_it_is(tmp_path: Path) -> None:
    """It breaks nothing."""
    assert breaks(compiled(PROTO, tmp_path)) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("message BookRecommendation {", "message BookRecommendation {\n    string author = 3;"),
        ("SELF_HELP = 2;", "SELF_HELP = 2;\n    POETRY = 3;"),
        (
            "service Recommendations {",
            "service Recommendations {\n    rpc Similar (RecommendationRequest) returns (RecommendationResponse);",
        ),
    ],
    ids=["a field", "an enum value", "a method"],
)
def test_what_is_added_breaks_nothing(old: str, new: str, tmp_path: Path) -> None:
    """Old clients skip what they do not know."""
    assert breaks(compiled(PROTO.replace(old, new), tmp_path)) == []


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("int32 max_results = 3;", "int32 limit = 3;", "RecommendationRequest.max_results must be 'optional int32 = 3', got None"),
        ("string title = 2;", "string title = 3;", "BookRecommendation.title must be 'optional string = 2', got 'optional string = 3'"),
        ("int32 user_id = 1;", "int64 user_id = 1;", "RecommendationRequest.user_id must be 'optional int32 = 1', got 'optional int64 = 1'"),
        ("repeated BookRecommendation", "BookRecommendation", "RecommendationResponse.recommendations must be"),
        ("    SELF_HELP = 2;", "", "BookCategory.SELF_HELP must be '2', got None"),
        ("MYSTERY = 0;", "CRIME = 0;", "BookCategory.MYSTERY must be '0', got None"),
        ("service Recommendations", "service Books", "Recommendations.Recommend must be"),
        ("returns (RecommendationResponse)", "returns (stream RecommendationResponse)", "Recommendations.Recommend must be"),
        ('syntax = "proto3";', 'syntax = "proto3";\npackage shop;', "package must be '', got 'shop'"),
    ],
    ids=["renamed", "renumbered", "retyped", "not repeated", "removed", "a value renamed", "service", "a stream", "a package"],
)  # fmt: skip
def test_what_breaks_old_clients(old: str, new: str, line: str, tmp_path: Path) -> None:
    """It is a line that names the promise, and what came instead."""
    assert PROTO.count(old) == 1
    assert any(said.startswith(line) for said in breaks(compiled(PROTO.replace(old, new), tmp_path)))
