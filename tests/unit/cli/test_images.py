"""Which image of an index is described, and what is read from a configuration."""

from __future__ import annotations

import pytest

from syncer.cli.images import choose, labels, read_config, summary
from syncer.errors import MalformedManifest, NotFound
from syncer.oci import Platform
from tests.support.images import artifact, image, index

INDEX = index(platforms=("linux/s390x", "linux/arm64/v8", "linux/amd64")).manifest


def test_the_platform_asked_for_is_chosen() -> None:
    """arm64 without a variant takes v8."""
    chosen = choose(INDEX, Platform.parse("linux/arm64"))
    assert chosen is not None
    assert str(chosen.platform) == "linux/arm64/v8"


def test_this_machines_platform_is_chosen_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that the machine uses are those of the index, or the first image is taken."""
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    chosen = choose(INDEX, None)
    assert chosen is not None
    assert str(chosen.platform) == "linux/amd64"
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    first = choose(INDEX, None)
    assert first == INDEX.manifests[0]


def test_a_platform_that_is_not_there_names_those_that_are() -> None:
    """The error helps to choose another."""
    with pytest.raises(NotFound, match="it has linux/amd64, linux/arm64/v8, linux/s390x"):
        choose(INDEX, Platform.parse("linux/mips"))


def test_what_is_no_index_has_nothing_to_choose() -> None:
    """A single image, and an artifact, are what they are."""
    assert choose(image().manifest, Platform.parse("linux/mips")) is None
    assert choose(artifact().manifest, None) is None


@pytest.mark.parametrize("data", [b"", b"[]", b"nope", b"\xff", b"[" * 100_000])
def test_a_configuration_that_is_no_object_is_told(data: bytes) -> None:
    """Whatever a registry sends, it is an error with a name."""
    with pytest.raises(MalformedManifest):
        read_config(data)


@pytest.mark.parametrize(
    "config", [{}, {"config": None}, {"config": []}, {"config": {"Labels": 1, "Cmd": 2, "ExposedPorts": []}}]
)
def test_odd_configurations_have_no_labels(config: dict[str, object]) -> None:
    """Members of another type than the specification's do no harm."""
    assert labels(config) == {}
    assert all(isinstance(value, str) for _, value in summary(config))


def test_a_configuration_is_summed_up() -> None:
    """What people look for is there."""
    config = read_config(
        b'{"created": "2026", "config": {"Cmd": ["a", "b"], "User": "root", "Labels": {"x": "y"},'
        b' "ExposedPorts": {"80/tcp": {}}, "WorkingDir": "/w", "Entrypoint": ["/e"]}}'
    )
    shown = {name: value for name, value in summary(config) if value}
    assert shown == {
        "created": "2026",
        "entrypoint": "/e",
        "command": "a b",
        "user": "root",
        "working dir": "/w",
        "ports": "80/tcp",
    }
    assert labels(config) == {"x": "y"}
