"""Platforms: names people write, and what they stand for."""

from __future__ import annotations

import pytest

from syncer.errors import InvalidReference
from syncer.oci import Descriptor, Digest, Platform


@pytest.mark.parametrize(
    ("text", "expected"),
    [("linux/x86_64", "linux/amd64"), ("Linux/aarch64", "linux/arm64"), ("linux/arm/v6", "linux/arm/v6")],
)
def test_names_are_normalised(text: str, expected: str) -> None:
    """What uname says becomes what indexes say."""
    assert str(Platform.parse(text)) == expected


@pytest.mark.parametrize("text", ["", "linux", "linux/", "linux/a/b/c", "linux/a b", "/amd64"])
def test_bad_platforms_are_refused(text: str) -> None:
    """A platform has two or three words."""
    with pytest.raises(InvalidReference, match="invalid platform"):
        Platform.parse(text)


@pytest.mark.parametrize(
    ("has", "wants", "satisfied"),
    [
        ("linux/amd64", "linux/amd64", True),
        ("linux/arm64", "linux/arm64/v8", True),
        ("linux/arm64/v8", "linux/arm64", True),
        ("linux/arm", "linux/arm/v7", True),
        ("linux/arm/v6", "linux/arm/v7", False),
        ("linux/arm/v6", "linux/arm", True),
        ("windows/amd64", "linux/amd64", False),
        ("linux/386", "linux/amd64", False),
    ],
)
def test_what_satisfies_what(has: str, wants: str, satisfied: bool) -> None:  # noqa: FBT001
    """A variant is compared when one is asked for, with arm64 meaning v8 and arm meaning v7."""
    assert Platform.parse(has).satisfies(Platform.parse(wants)) is satisfied


def test_windows_versions_match_by_prefix() -> None:
    """A Windows build satisfies the version it belongs to."""
    has = Platform.from_json(
        {"os": "windows", "architecture": "amd64", "os.version": "10.0.17763.1", "os.features": ["w"]}
    )
    assert has.satisfies(Platform(os="windows", architecture="amd64", os_version="10.0.17763"))
    assert not has.satisfies(Platform(os="windows", architecture="amd64", os_version="10.1"))
    assert has.to_json() == {
        "architecture": "amd64",
        "os": "windows",
        "os.version": "10.0.17763.1",
        "os.features": ["w"],
    }


def test_descriptors_round_trip() -> None:
    """A descriptor's JSON object reads back as the descriptor."""
    descriptor = Descriptor(
        media_type="a/b",
        digest=Digest.of(b"x"),
        size=1,
        platform=Platform.parse("linux/arm/v6"),
        artifact_type="c/d",
        annotations={"k": "v"},
        urls=("https://example.com/x",),
    )
    assert Descriptor.from_json(descriptor.to_json()) == descriptor
    assert Platform.from_json({}).is_unknown is False
    assert Platform.from_json({"os": "unknown", "architecture": "unknown"}).is_unknown
