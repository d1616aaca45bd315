"""The JSON schema, the reference and the example say the same as the model."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ruamel.yaml import YAML

from syncer.spec import RegistrySpec, load_spec
from syncer.spec.schema import json_schema

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "config.example.yaml"
REFERENCE = ROOT / "docs" / "spec.md"


def keys(schema: dict[str, Any], node: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each key of the schema, as ``registries.NAME.host`` and ``sync[].from``."""
    if "$ref" in node:
        node = {**node, **schema["$defs"][node["$ref"].rpartition("/")[2]]}
    for choice in node.get("anyOf", ()):
        yield from keys(schema, choice, path)
    if "additionalProperties" in node and isinstance(node["additionalProperties"], dict):
        yield from keys(schema, node["additionalProperties"], f"{path}.NAME")
    if "items" in node:
        yield from keys(schema, node["items"], f"{path}[]")
    for key, value in node.get("properties", {}).items():
        inner = f"{path}.{key}" if path else key
        yield inner, value
        yield from keys(schema, value, inner)


SCHEMA = json_schema()
KEYS = dict(keys(SCHEMA, SCHEMA))


def test_the_schema_knows_every_key() -> None:
    """These are the keys of this version's language."""
    assert set(KEYS) == {
        *("version", "state", "registries_conf", "registries", "defaults", "sync"),
        *(f"registries.NAME.{key}" for key in ("host", "layout", "credentials", "tls", "plain_http", "limits")),
        *(f"registries.NAME.{key}" for key in ("proxy", "trusted_hosts", "download", "upload", "create", "timeouts")),
        *(f"registries.NAME.download.{key}" for key in ("parallel", "large")),
        *(f"registries.NAME.timeouts.{key}" for key in ("connect", "read", "commit", "stall", "slowest")),
        *(f"registries.NAME.upload.{key}" for key in ("form", "chunk")),
        *(f"registries.NAME.credentials.{key}" for key in ("username", "password", "token")),
        *(f"registries.NAME.tls.{key}" for key in ("ca", "cert", "key", "insecure")),
        *(f"registries.NAME.limits.{key}" for key in ("connections", "requests_per_second", "bandwidth")),
        *(f"defaults.{key}" for key in ("platforms", "referrers", "sole_writer")),
        *(f"sync[].{key}" for key in ("name", "from", "to", "tags", "platforms", "referrers", "sole_writer")),
        *(f"sync[].tags.{key}" for key in ("include", "exclude", "immutable")),
    }


@pytest.mark.parametrize("key", KEYS)
def test_each_key_is_described(key: str) -> None:
    """An editor has something to show for every key."""
    assert len(KEYS[key]["description"]) > 10


def test_the_schema_is_json_for_editors() -> None:
    """The schema names its dialect, allows no unknown key but x- ones, and does not offer null."""
    text = json.dumps(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert SCHEMA["additionalProperties"] is False
    assert "^x-" in SCHEMA["patternProperties"]
    assert '"null"' not in text
    assert "null" not in text
    assert SCHEMA["required"] == ["version", "registries", "sync"]
    assert SCHEMA["$defs"]["EntryModel"]["required"] == ["from", "to"]
    assert SCHEMA["$defs"]["RegistryModel"]["oneOf"] == [{"required": ["host"]}, {"required": ["layout"]}]
    assert all(definition["additionalProperties"] is False for definition in SCHEMA["$defs"].values())
    assert KEYS["registries.NAME.limits.connections"]["anyOf"][0] == {"type": "integer", "minimum": 1, "maximum": 1024}


@pytest.mark.parametrize("key", KEYS)
def test_the_reference_has_each_key(key: str) -> None:
    """docs/spec.md has a heading for every key."""
    assert re.search(rf"^#+ `{re.escape(key)}`$", REFERENCE.read_text(encoding="utf-8"), re.MULTILINE)


def test_the_reference_has_no_other_key() -> None:
    """A key that was removed leaves no heading behind."""
    headings = re.findall(r"^#+ `([a-z].*)`$", REFERENCE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(headings) == sorted(KEYS)


def present(value: Any, path: str = "") -> Iterator[str]:
    """Yield the keys that a document has, as :func:`keys` writes them."""
    if isinstance(value, dict):
        for key, inner in value.items():
            here = f"{path}.NAME" if path == "registries" else f"{path}.{key}" if path else str(key)
            yield here
            yield from present(inner, here)
    elif isinstance(value, list):
        for inner in value:
            yield from present(inner, f"{path}[]")


def test_the_example_has_every_key() -> None:
    """config.example.yaml shows each key that there is."""
    document = YAML(typ="safe", pure=True).load(EXAMPLE.read_text(encoding="utf-8"))
    shown = {key for key in present(document) if not key.startswith("x-")}
    assert shown - {"registries.NAME"} == set(KEYS)


def test_the_example_is_a_spec() -> None:
    """config.example.yaml loads as it is, and fits the demo's content."""
    spec = load_spec(EXAMPLE, {})
    assert spec.state == ROOT / "syncer-demo.db"
    base, team, web = spec.entries
    assert base.tags.literal_tags() == ("1.1", "2.0", "latest")
    assert team.route("team/api") == "mirror/team/api"
    assert team.route("team/web") is None
    assert team.tags.select(["nightly", "v1", "v2"]) == ["v1", "v2"]
    assert web.tags.select(["debug", "v1", "v2"]) == ["v1", "v2"]
    assert [str(platform) for platform in web.platforms] == ["linux/amd64"]
    assert [entry.sole_writer for entry in spec.entries] == [False, True, False]


def test_the_example_takes_the_demo_s_settings() -> None:
    """The demo tells the example where its registries are, and where to keep its state."""
    environ = {"SOURCE_REGISTRY": "127.0.0.1:1", "TARGET_REGISTRY": "127.0.0.1:2", "SYNCER_STATE": "/tmp/x.db"}  # noqa: S108 - never opened
    spec = load_spec(EXAMPLE, environ)
    hosts = [found.host for found in spec.registries.values() if isinstance(found, RegistrySpec) and found.plain_http]
    assert hosts == ["127.0.0.1:1", "127.0.0.1:2"]
    assert spec.state == Path("/tmp/x.db")  # noqa: S108 - never opened


def test_examples_in_the_reference_load(tmp_path: Path) -> None:
    """Every whole spec in docs/spec.md is valid."""
    blocks = re.findall(r"```yaml\n(.*?)```", REFERENCE.read_text(encoding="utf-8"), re.DOTALL)
    whole = [block for block in blocks if block.startswith("version: 1")]
    assert whole
    for block in whole:
        path = tmp_path / "spec.yaml"
        path.write_text(block, encoding="utf-8")
        assert load_spec(path, {"PROD_USER": "u", "PROD_PASSWORD": "p"}).entries
