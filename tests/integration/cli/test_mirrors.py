"""registries.conf on the command line: where images are read, and how it is switched off."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.support.images import image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

    from tests.integration.cli.conftest import Ran, Serve

    Syncer = Callable[..., Ran]

SAMPLE = image(seed="cli mirrors")


def conf(path: Path, prefix: str, *, mirror: str = "", more: str = "") -> Path:
    """Write a file with one rule."""
    text = f'[[registry]]\nlocation = "{prefix}"\n{more}\n'
    if mirror:
        text += f'[[registry.mirror]]\nlocation = "{mirror}"\n'
    path.write_text(text)
    return path


def test_images_are_read_through_a_mirror(syncer: Syncer, serve: Serve, tmp_path: Path) -> None:
    """Each command that reads an image takes the way that the file says, and says so on standard error."""
    with serve("up") as up, serve("mirror", {"team/api:v1": SAMPLE}) as mirror:
        file = conf(tmp_path / "r.conf", up.host, mirror=mirror.host)
        there = ("--registries-conf", str(file))
        name = f"{up.host}/team/api:v1"
        ran = syncer("inspect", name, "--output", "json", *there)
        assert ran.code == 0, ran.err
        assert json.loads(ran.out)["digest"] == SAMPLE.digest
        assert f"read through {mirror.host}, as {file} says" in ran.err.replace("\n", " ")
        assert syncer("manifest-digest", name, *there).out.strip() == SAMPLE.digest
        assert syncer("copy", name, f"oci:{tmp_path / 'out'}:v1", *there).out.strip() == SAMPLE.digest
        assert not any("blobs" in record.path and record.status == 200 for record in up.requests)
        # Without the file the registry itself is asked, which has nothing.
        for words in (("inspect", name), ("inspect", name, "--registries-conf", "off")):
            ran = syncer(*words)
            assert ran.code == 1
            assert mirror.host not in ran.err


def test_the_usual_file_is_found(syncer: Syncer, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an option the variable of other tools counts; ``off`` counts more."""
    with serve("up", {"team/api:v1": SAMPLE}) as up:
        file = conf(tmp_path / "r.conf", up.host, more="blocked = true")
        monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(file))
        for words in (
            ("inspect", f"{up.host}/team/api:v1"),
            ("list-tags", f"{up.host}/team/api"),
            ("list-repos", up.host),
        ):
            ran = syncer(*words)
            assert ran.code == 5, ran.err
            assert f"blocked by {file}" in ran.error
            assert syncer(*words, "--registries-conf", "off").code == 0
        assert syncer("copy", f"{up.host}/team/api:v1", f"oci:{tmp_path / 'out'}:v1").code == 5


def test_targets_are_written_where_their_names_say(syncer: Syncer, serve: Serve, tmp_path: Path) -> None:
    """A copy into a registry that a rule blocks for reading works, and so does a delete."""
    with serve("up", {"team/api:v1": SAMPLE}) as up, serve("to") as to:
        file = conf(tmp_path / "r.conf", to.host, more="blocked = true")
        name = f"{to.host}/copy:v1"
        assert syncer("copy", f"{up.host}/team/api:v1", name, "--registries-conf", str(file)).code == 0
        assert syncer("inspect", name, "--registries-conf", str(file)).code == 5
        assert syncer("delete", name).code == 0


def test_a_file_that_cannot_be_used_ends_the_command(syncer: Syncer, tmp_path: Path) -> None:
    """It is a usage error that names the file; nothing is asked of anybody."""
    ran = syncer("list-tags", "localhost:1/app", "--registries-conf", str(tmp_path / "none.conf"))
    assert ran.code == 2
    assert "none.conf: there is no such file" in ran.error
    assert "'off'" in ran.error
    (tmp_path / "old.conf").write_text("[registries.search]\nregistries = []\n")
    ran = syncer("list-tags", "localhost:1/app", "--registries-conf", str(tmp_path / "old.conf"))
    assert ran.code == 2
    assert "version 1" in ran.error


def test_an_image_is_shown_when_only_its_mirror_is_there(syncer: Syncer, serve: Serve, tmp_path: Path) -> None:
    """What the mirror sent is shown although the registry is gone; that more may refer to it is said, not hidden."""
    with serve("mirror", {"team/api:v1": SAMPLE}) as mirror:
        # A port of TCP's own: nobody answers, whatever else runs here.
        file = conf(tmp_path / "r.conf", "127.0.0.1:1", mirror=mirror.host)
        words = ("inspect", "127.0.0.1:1/team/api:v1", "--registries-conf", str(file))
        ran = syncer(*words, "--output", "json")
        assert ran.code == 0, ran.err
        shown = json.loads(ran.out)
        assert shown["digest"] == SAMPLE.digest
        assert "connection refused" in shown["companionsUnknown"]
        ran = syncer(*words)
        assert ran.code == 0, ran.err
        assert "cosign tags: not known, cannot connect to 127.0.0.1:1" in ran.out
