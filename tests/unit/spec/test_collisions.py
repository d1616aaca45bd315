"""Entries that get into each other's way are refused before any request."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncer.errors import SpecError
from syncer.spec import Spec, parse_spec

HEAD = """\
version: 1
registries:
  hub: {host: docker.io}
  prod: {host: registry.example.com}
  same: {host: "Registry.Example.com:443"}
  plain: {host: registry.example.com, plain_http: true}
  usb: {layout: ./carried}
  stick: {layout: carried/../carried}
sync:
"""


def spec(*entries: str) -> Spec:
    """Return the spec with ``entries``, which begin on line 10."""
    text = HEAD + "".join(f"  - {{name: e{index}, {entry}}}\n" for index, entry in enumerate(entries))
    return parse_spec(text, file="spec.yaml", base=Path("/base"), environ={})


def route(source: str, target: str, rest: str = "") -> str:
    """Return an entry's keys."""
    return f'from: "{source}", to: "{target}"{rest}'


@pytest.mark.parametrize(
    ("one", "two", "shared"),
    [
        (route("hub/a", "prod/x"), route("hub/b", "prod/x"), "prod/x:latest"),
        (route("hub/a", "prod/x"), route("hub/b", "same/x"), "same/x:latest"),
        (route("hub/a", "usb/x"), route("hub/b", "stick/x"), "stick/x:latest"),
        (route("hub/a", "prod/m/library/a"), route("hub/library/*", "prod/m/{path}"), "prod/m/library/a:latest"),
        (route("hub/org/**", "prod/m/{name}"), route("hub/c", "prod/m/c"), "prod/m/c:latest"),
        (route("hub/org/**", "prod/m/{name}"), route("hub/team/v*", "prod/m/{name}"), "prod/m/v:latest"),
        (route("hub/org/**", "prod/m/{path}"), route("hub/org/a*", "prod/m/{path}"), "prod/m/org/a:latest"),
        (route("hub/*/x", "prod/{parent}/{name}"), route("hub/y/*", "prod/{path}"), "prod/y/x:latest"),
        (route("hub/a/*", "prod/{name}/{name}"), route("hub/a/*", "prod/{name}/{name}"), "prod/1/1:latest"),
        (
            route("hub/a", "prod/x", ", tags: {include: ['3.*']}"),
            route("hub/b", "prod/x", ", tags: {include: ['*.4']}"),
            "prod/x:3.4",
        ),
    ],
)
def test_collisions(one: str, two: str, shared: str) -> None:
    """Two entries that could write one tag are refused, with their lines and the tag."""
    with pytest.raises(SpecError) as caught:
        spec(one, two)
    error = caught.value
    assert (error.line, error.path) == (11, "sync[1].to")
    assert error.detail == f"entry 'e1' (line 11) and entry 'e0' (line 10) would both write {shared}"


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (route("hub/a", "prod/x"), route("hub/a", "prod/y")),
        (route("hub/a", "prod/x"), route("hub/a", "usb/x")),
        (route("hub/a", "prod/x"), route("hub/a", "plain/x")),
        (route("hub/org/*", "prod/m/{path}"), route("hub/team/*", "prod/m/{path}")),
        (route("hub/org/**", "prod/m/{name}"), route("hub/c", "prod/m/x/c")),
        (route("hub/org/a*", "prod/m/{name}"), route("hub/org/b*", "prod/m/{name}")),
        (
            route("hub/a", "prod/x", ", tags: {include: ['3.*']}"),
            route("hub/b", "prod/x", ", tags: {exclude: ['3.*']}"),
        ),
        # Not decided here; the engine sees the names themselves.
        (
            route("hub/a", "prod/x", ", tags: {include: ['re:a+b']}"),
            route("hub/b", "prod/x", ", tags: {include: ['re:ab+']}"),
        ),
        (route("hub/a/*", "prod/{name}/{name}"), route("hub/b/*", "prod/{name}/{name}")),
        # Into another entry's source is a chain, and fine.
        (route("hub/a", "prod/x"), route("prod/x", "usb/x")),
    ],
)
def test_what_does_not_collide(one: str, two: str) -> None:
    """Entries that have no tag in common, or none that can be shown, are accepted."""
    assert len(spec(one, two).entries) == 2


@pytest.mark.parametrize(
    ("entry", "repository"),
    [
        (route("prod/a", "prod/a"), "a"),
        (route("prod/a", "same/{path}"), "a"),
        (route("prod/a/**", "prod/{path}"), "a/1"),
        (route("prod/a/**", "prod/{parent}/{name}"), "a/1"),
        (route("prod/**", "prod/m/{name}"), "m/1"),
        (route("usb/a", "stick/a"), "a"),
    ],
)
def test_loops(entry: str, repository: str) -> None:
    """An entry that copies a repository onto itself is refused."""
    with pytest.raises(SpecError) as caught:
        spec(entry)
    assert caught.value.detail == f"the source {repository!r} would be copied onto itself"


@pytest.mark.parametrize(
    ("entry", "target"),
    [
        (route("prod/**", "prod/mirror/{path}"), "mirror/1"),
        (route("prod/a/**", "same/a/mirror/{path}"), "a/mirror/a/1"),
        (route("prod/team/*", "prod/team/mirror-{name}"), "team/mirror-1"),
        (route("prod/*", "prod/{name}-copy"), "1-copy"),
        (route("prod/**", "prod/{parent}/copies/{name}"), "1/copies/1"),
        (route("usb/**", "stick/m/{path}"), "m/1"),
        # Not known exactly, but shown by an example.
        (route("prod/**", "prod/m/{path}/{name}"), "m/1/1"),
    ],
)
def test_entries_that_feed_on_themselves(entry: str, target: str) -> None:
    """An entry whose targets would be its own sources in the next run is refused: it would never be done."""
    with pytest.raises(SpecError) as caught:
        spec(entry)
    assert caught.value.detail == f"the target {target!r} would be a source of the same entry in the next run"
    assert "'from'" in caught.value.hint


@pytest.mark.parametrize(
    "entry",
    [
        route("prod/a", "prod/b"),
        route("prod/a", "prod/a/a"),
        route("prod/a/*", "prod/{name}/{name}/x"),
        route("prod/**/x", "prod/m/{path}/y"),
        route("prod/a/**", "prod/m/{path}"),
        route("prod/a/*", "prod/m/{name}"),
        route("prod/a/*", "prod/m-{name}"),
        route("prod/a", "plain/a"),
    ],
)
def test_within_one_registry(entry: str) -> None:
    """Copying within a registry is fine where source and target differ."""
    assert len(spec(entry).entries) == 1


def test_hundreds_of_entries_are_checked_by_name() -> None:
    """Entries with one target each are matched by name, not each with each."""
    entries = [route(f"hub/org/r{index}", f"prod/m/r{index}") for index in range(300)]
    assert len(spec(*entries, route("hub/team/*", "prod/n/{name}")).entries) == 301


def test_many_collisions_are_not_all_told() -> None:
    """Copies of one entry give a readable message."""
    with pytest.raises(SpecError) as caught:
        spec(*[route("hub/a", "prod/x")] * 40)
    lines = caught.value.message.splitlines()
    assert len(lines) == 21
    assert lines[-1] == "and 80 more"
