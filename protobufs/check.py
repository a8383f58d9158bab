"""Checks that the proto still serves clients generated from the tutorial's: ``python -m protobufs.check``."""

import sys

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto

from protobufs import recommendations_pb2

# What the tutorial's clients know. More may come beside it; nothing of it may go or change.
PROMISED = {
    "package": "",
    "BookCategory.MYSTERY": "0",
    "BookCategory.SCIENCE_FICTION": "1",
    "BookCategory.SELF_HELP": "2",
    "RecommendationRequest.user_id": "optional int32 = 1",
    "RecommendationRequest.category": "optional .BookCategory = 2",
    "RecommendationRequest.max_results": "optional int32 = 3",
    "BookRecommendation.id": "optional int32 = 1",
    "BookRecommendation.title": "optional string = 2",
    "RecommendationResponse.recommendations": "repeated .BookRecommendation = 1",
    "Recommendations.Recommend": ".RecommendationRequest -> .RecommendationResponse",
}


def surface(file: FileDescriptorProto) -> dict[str, str]:
    """What a client can know of the file: each name, with its number and type."""
    known = {"package": file.package}
    for enum in file.enum_type:
        known |= {f"{enum.name}.{value.name}": str(value.number) for value in enum.value}
    for message in file.message_type:
        known |= {f"{message.name}.{field.name}": _type(field) for field in message.field}
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


def _type(field: FieldDescriptorProto) -> str:
    label = FieldDescriptorProto.Label.Name(field.label).removeprefix("LABEL_").lower()
    kind = field.type_name or FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    return f"{label} {kind} = {field.number}"


if __name__ == "__main__":
    proto = FileDescriptorProto()
    recommendations_pb2.DESCRIPTOR.CopyToProto(proto)
    sys.exit("\n".join(breaks(proto)) or None)
