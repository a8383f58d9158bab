"""A change of the proto that would break clients generated from the tutorial's is refused."""

from pathlib import Path

import pytest

from protobufs.check import breaks, compiled

PROTO = (Path(__file__).parents[3] / "protobufs" / "recommendations.proto").read_text()


def broken(text: str, folder: Path) -> list[str]:
    """The promises that a file of this text breaks."""
    proto = folder / "changed.proto"
    proto.write_text(text)
    return breaks(compiled(proto))


def test_the_file_as_it_is(tmp_path: Path) -> None:
    """It breaks nothing."""
    assert broken(PROTO, tmp_path) == []


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
    assert broken(PROTO.replace(old, new), tmp_path) == []


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("int32 max_results = 3;", "int32 limit = 3;", "RecommendationRequest.max_results must be 'int32 = 3, in JSON maxResults', got None"),
        ("string title = 2;", "string title = 3;", "BookRecommendation.title must be 'string = 2, in JSON title', got 'string = 3, in JSON title'"),
        ("int32 user_id = 1;", "int64 user_id = 1;", "RecommendationRequest.user_id must be 'int32 = 1, in JSON userId', got 'int64 = 1, in JSON userId'"),
        ("int32 user_id = 1;", "optional int32 user_id = 1;", "RecommendationRequest.user_id must be 'int32 = 1, in JSON userId', got 'optional int32 = 1, in JSON userId'"),
        ("int32 user_id = 1;", "oneof reader { int32 user_id = 1; string name = 4; }", "RecommendationRequest.user_id must be 'int32 = 1, in JSON userId', got 'oneof reader int32 = 1, in JSON userId'"),
        ("int32 user_id = 1;", 'int32 user_id = 1 [json_name = "user"];', "RecommendationRequest.user_id must be 'int32 = 1, in JSON userId', got 'int32 = 1, in JSON user'"),
        ("repeated BookRecommendation", "BookRecommendation", "RecommendationResponse.recommendations must be"),
        ("    SELF_HELP = 2;", "", "BookCategory.SELF_HELP must be '2', got None"),
        ("MYSTERY = 0;", "CRIME = 0;", "BookCategory.MYSTERY must be '0', got None"),
        ("service Recommendations", "service Books", "Recommendations.Recommend must be"),
        ("returns (RecommendationResponse)", "returns (stream RecommendationResponse)", "Recommendations.Recommend must be"),
        ('syntax = "proto3";', 'syntax = "proto3";\npackage shop;', "package must be '', got 'shop'"),
        ('syntax = "proto3";', 'edition = "2023";', "syntax must be 'proto3', got 'editions'"),
    ],
    ids=["renamed", "renumbered", "retyped", "presence", "moved into a oneof", "renamed in JSON", "not repeated", "removed", "a value renamed", "service", "a stream", "a package", "the syntax"],
)  # fmt: skip
def test_what_breaks_old_clients(old: str, new: str, line: str, tmp_path: Path) -> None:
    """It is a line that names the promise, and what came instead."""
    assert PROTO.count(old) == 1
    assert any(said.startswith(line) for said in broken(PROTO.replace(old, new), tmp_path))


def test_a_file_that_protoc_refuses(tmp_path: Path) -> None:
    """It is named, and nothing is compared."""
    with pytest.raises(ValueError, match=r"changed\.proto must be a file that protoc accepts"):
        broken("message {", tmp_path)
