"""Checks that the proto still serves clients generated from the tutorial's: ``python -m protobufs.check``."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet
from grpc_tools import protoc  # type: ignore[import-untyped]

# What the tutorial's clients know. More may come beside it; nothing of it may go or change.
PROMISED = {
    "syntax": "proto3",
    "package": "",
    "BookCategory.MYSTERY": "0",
    "BookCategory.SCIENCE_FICTION": "1",
    "BookCategory.SELF_HELP": "2",
    "RecommendationRequest.user_id": "int32 = 1, in JSON userId",
    "RecommendationRequest.category": ".BookCategory = 2, in JSON category",
    "RecommendationRequest.max_results": "int32 = 3, in JSON maxResults",
    "BookRecommendation.id": "int32 = 1, in JSON id",
    "BookRecommendation.title": "string = 2, in JSON title",
    "RecommendationResponse.recommendations": "repeated .BookRecommendation = 1, in JSON recommendations",
    "Recommendations.Recommend": ".RecommendationRequest -> .RecommendationResponse",
}


def compiled(proto: Path) -> FileDescriptorProto:
    """The descriptor that protoc makes of a .proto file. Raises ValueError when protoc refuses the file."""
    with TemporaryDirectory() as folder:
        out = Path(folder, "descriptor")
        if protoc.main(["protoc", f"-I{proto.parent}", f"--descriptor_set_out={out}", proto.name]):
            raise ValueError(f"{proto} must be a file that protoc accepts")
        return FileDescriptorSet.FromString(out.read_bytes()).file[0]


def surface(file: FileDescriptorProto) -> dict[str, str]:
    """What a client can know of the file: each name, with its number and type."""
    known = {"syntax": file.syntax or "proto2", "package": file.package}
    for enum in file.enum_type:
        known |= {f"{enum.name}.{value.name}": str(value.number) for value in enum.value}
    for message in file.message_type:
        oneofs = [oneof.name for oneof in message.oneof_decl]
        known |= {f"{message.name}.{field.name}": _field(field, oneofs) for field in message.field}
    for service in file.service:
        for method in service.method:
            asks = "stream " * method.client_streaming + method.input_type
            answers = "stream " * method.server_streaming + method.output_type
            known[f"{service.name}.{method.name}"] = f"{asks} -> {answers}"
    return known


def breaks(file: FileDescriptorProto) -> list[str]:
    """Each promise that the file breaks, in a line."""
    known = surface(file)
    return [
        f"{name} must be {promised!r}, got {known.get(name)!r}"
        for name, promised in PROMISED.items()
        if known.get(name) != promised
    ]


def _field(field: FieldDescriptorProto, oneofs: list[str]) -> str:
    """The field as the file declares it; "optional" is the word there, which gives the field presence."""
    kind = field.type_name or FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        kind = f"repeated {kind}"
    elif field.proto3_optional:
        kind = f"optional {kind}"
    elif field.HasField("oneof_index"):
        kind = f"oneof {oneofs[field.oneof_index]} {kind}"
    return f"{kind} = {field.number}, in JSON {field.json_name}"


if __name__ == "__main__":
    sys.exit("\n".join(breaks(compiled(Path(__file__).with_name("recommendations.proto")))) or None)
