"""JSON schemas as kubeconform takes them, strict, from Kubernetes' own OpenAPI and from definitions of resources."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

# kubeconform's template for the names of the files.
LOCATION = "{{ .Group }}_{{ .ResourceAPIVersion }}_{{ .ResourceKind }}.json"
REFERENCE = "#/definitions/"


def write(folder: Path, openapi: Path, definitions: Iterable[Path]) -> str:
    """Write a schema for each kind; the result is what kubeconform's -schema-location takes."""
    for (group, version, kind), schema in (*_builtin(openapi), *_custom(definitions)):
        # Of the core, whose group has no name, kubeconform takes the version for the group.
        (folder / f"{group or version}_{version}_{kind.lower()}.json").write_text(json.dumps(schema))
    return str(folder / LOCATION)


Kinds = Iterator[tuple[tuple[str, str, str], Any]]


def _builtin(openapi: Path) -> Kinds:
    definitions = json.loads(openapi.read_text())["definitions"]
    for definition in definitions.values():
        for kind in definition.get("x-kubernetes-group-version-kind", ()):
            if kind["group"] != "apiextensions.k8s.io":  # a schema of schemas contains itself
                yield (kind["group"], kind["version"], kind["kind"]), _strict(definition, definitions)


def _custom(paths: Iterable[Path]) -> Kinds:
    for path in paths:
        for resource in yaml.safe_load_all(path.read_text()):
            spec = resource["spec"]
            for version in spec["versions"]:
                kind = (spec["group"], version["name"], spec["names"]["kind"])
                yield kind, _strict(version["schema"]["openAPIV3Schema"], {})


def _strict(schema: Any, definitions: dict[str, Any]) -> Any:
    """The schema without references; an object has no property but those that are named."""
    if isinstance(schema, list):
        return [_strict(each, definitions) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _strict(definitions[schema["$ref"].removeprefix(REFERENCE)], definitions)
    if schema.get("format") == "int-or-string" or schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    made = {key: _strict(value, definitions) for key, value in schema.items()}
    if "properties" in made and not schema.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
    return made
