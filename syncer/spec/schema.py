"""The JSON schema of the spec, for editors: completion, descriptions, and most mistakes as one types."""

from __future__ import annotations

from typing import Any

from syncer.spec.model import FileModel

DIALECT = "https://json-schema.org/draft/2020-12/schema"
#: Numbers and switches may come from the environment as well.
_VARIABLE = {"type": "string", "pattern": r"\$\{"}
_EITHER = {
    "RegistryModel": [["host"], ["layout"]],
    "CredentialsModel": [["username", "password"], ["token"]],
}


def json_schema() -> dict[str, Any]:
    """Return the schema as a JSON object; every key has a description."""
    schema = FileModel.model_json_schema(by_alias=True)
    definitions: dict[str, Any] = schema["$defs"]
    for definition in (schema, *definitions.values()):
        definition["properties"] = {key: _property(value) for key, value in definition["properties"].items()}
        definition.pop("title", None)
    for name, alternatives in _EITHER.items():
        definitions[name]["oneOf"] = [{"required": required} for required in alternatives]
    definitions["TlsModel"]["dependentRequired"] = {"cert": ["key"], "key": ["cert"]}
    schema["properties"]["registries"]["propertyNames"] = {"pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"}
    schema["patternProperties"] = {"^x-": {"description": "Not read; a place for YAML anchors."}}
    return {"$schema": DIALECT, "title": "Syncer spec", **schema}


def _property(value: dict[str, Any]) -> dict[str, Any]:
    """Drop what pydantic says of Python, and what a spec has no use for: titles, and null as a value."""
    value = {key: item for key, item in value.items() if key != "title" and not (key == "default" and item is None)}
    choices = [choice for choice in value.get("anyOf", ()) if choice != {"type": "null"}]
    if len(choices) == 1:
        value = {**{key: item for key, item in value.items() if key != "anyOf"}, **choices[0]}
    elif choices:
        value["anyOf"] = choices
    if value.get("type") in ("integer", "number", "boolean"):
        kind = {key: value.pop(key) for key in list(value) if key not in ("description", "default")}
        value["anyOf"] = [kind, _VARIABLE]
    return value
