"""certs.d: which directory counts, and what its files are."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING, NoReturn

import pytest

from syncer.errors import CertificateError
from syncer.registry.network.certificates import Certificates, contexts_of, find, is_plain
from syncer.registry.settings import RegistrySettings, TlsSettings

if TYPE_CHECKING:
    from pathlib import Path


def fill(folder: Path, host: str, *names: str) -> Path:
    """Put empty files into the directory of ``host``."""
    directory = folder / host
    directory.mkdir(parents=True)
    for name in names:
        (directory / name).touch()
    return directory


def test_the_first_directory_wins(tmp_path: Path) -> None:
    """Of the folders, the first that has a directory for the registry is read, even an empty one, and no other."""
    one, two, three = tmp_path / "1", tmp_path / "2", tmp_path / "3"
    fill(one, "other.io", "ca.crt")
    here = fill(two, "reg.io", "ca.crt")
    fill(three, "reg.io", "more.crt")
    folders = (str(one), str(two), str(three))
    assert Certificates(authorities=(str(here / "ca.crt"),)).authorities == find("reg.io", folders).authorities
    fill(one, "reg.io")
    assert find("reg.io", folders) == Certificates(hint=find("reg.io", folders).hint)
    assert find("else.io", folders) == Certificates()


def test_the_port_belongs_to_the_name(tmp_path: Path) -> None:
    """A directory is for the host with its port as written."""
    directory = fill(tmp_path, "reg.io:5000", "ca.crt")
    assert find("reg.io:5000", (str(tmp_path),)).authorities == (str(directory / "ca.crt"),)
    assert find("reg.io", (str(tmp_path),)).authorities == ()
    assert find("reg.io:443", (str(tmp_path),)).authorities == ()


def test_the_docker_hub(tmp_path: Path) -> None:
    """The Hub's directory may have the name of its API host."""
    directory = fill(tmp_path, "registry-1.docker.io", "ca.crt")
    assert find("docker.io", (str(tmp_path),)).authorities == (str(directory / "ca.crt"),)


def test_kinds_of_files(tmp_path: Path) -> None:
    """Authorities end in .crt, client certificates in .cert with .key; everything else is left alone."""
    directory = fill(
        tmp_path, "reg.io", "b.crt", "a.crt", "me.cert", "me.key", "you.cert", "you.key", "README", "x.pem"
    )
    found = find("reg.io", (str(tmp_path),))
    assert found.authorities == (str(directory / "a.crt"), str(directory / "b.crt"))
    assert found.pairs == tuple(
        (str(directory / f"{name}.cert"), str(directory / f"{name}.key")) for name in ("me", "you")
    )


@pytest.mark.parametrize(("name", "missing"), [("me.cert", "me.key"), ("me.key", "me.cert")])
def test_half_a_pair(tmp_path: Path, name: str, missing: str) -> None:
    """A client certificate without its key, or the other way, is an error that names both files."""
    directory = fill(tmp_path, "reg.io", name, "ca.crt")
    with pytest.raises(CertificateError, match=missing) as caught:
        find("reg.io", (str(tmp_path),))
    assert str(directory / name) in caught.value.message
    assert "NAME.key" in caught.value.hint


def test_files_that_are_no_certificates(tmp_path: Path) -> None:
    """A file that holds no certificate is named."""
    directory = fill(tmp_path, "reg.io", "ca.crt")
    settings = RegistrySettings(host="reg.io", tls=TlsSettings(folders=(str(tmp_path),)))
    with pytest.raises(CertificateError, match=r"ca\.crt for reg\.io") as caught:
        contexts_of(settings)
    assert str(directory / "ca.crt") in caught.value.message
    assert "*.crt" in caught.value.hint


def test_reasons_are_told_in_words(tmp_path: Path) -> None:
    """Neither numbers of errors nor lines of OpenSSL's source: what is missing, and where."""
    empty = tmp_path / "empty.pem"
    empty.touch()
    missing = tmp_path / "missing.pem"
    expected = {
        TlsSettings(ca=str(missing)): f"cannot load {missing} for reg.io: no such file or directory",
        TlsSettings(ca=str(empty)): f"cannot load {empty} for reg.io: no certificate found",
        TlsSettings(cert=str(empty)): f"cannot load {empty} for reg.io: it holds no certificate, or no key",
    }
    for tls, message in expected.items():
        with pytest.raises(CertificateError) as caught:
            contexts_of(RegistrySettings(host="reg.io", tls=tls))
        assert message == caught.value.message


def test_what_is_configured_comes_first(tmp_path: Path) -> None:
    """Where the spec names a file, no directory is read."""
    fill(tmp_path, "reg.io", "me.cert")
    settings = RegistrySettings(host="reg.io", tls=TlsSettings(ca="/nonexistent/ca.pem", folders=(str(tmp_path),)))
    with pytest.raises(CertificateError, match=r"/nonexistent/ca\.pem"):
        contexts_of(settings)


def test_folders_that_are_not_there(tmp_path: Path) -> None:
    """Missing folders, and files in place of directories, are nothing."""
    (tmp_path / "file").touch()
    fill(tmp_path, "folder")
    (tmp_path / "folder" / "reg.io").touch()
    assert find("reg.io", (str(tmp_path / "no"), str(tmp_path / "file"), str(tmp_path / "folder"))) == Certificates()


def test_directories_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder for root alone is passed over; an unreadable directory of the registry's own is an error."""
    closed = tmp_path / "closed"
    fill(closed, "reg.io", "ca.crt")
    directory = fill(tmp_path / "open", "reg.io", "ca.crt")

    def refuse(self: Path) -> NoReturn:
        # The tests may run as root, whom no permission stops.
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(pathlib.Path, "iterdir", refuse)
    with pytest.raises(CertificateError, match=r"cannot read the certificates in .*: permission denied") as caught:
        find("reg.io", (str(directory.parent),))
    assert str(directory) in caught.value.message
    monkeypatch.setattr(pathlib.Path, "stat", refuse)
    assert find("reg.io", (str(closed),)) == Certificates()


def test_nothing_configured_reads_nothing() -> None:
    """Without a setting no file is looked at."""
    assert is_plain(RegistrySettings(host="reg.io"))
    assert not is_plain(RegistrySettings(host="reg.io", tls=TlsSettings(folders=("/etc/docker/certs.d",))))
