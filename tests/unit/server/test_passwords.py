"""The password file."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
from typing import TYPE_CHECKING

import pytest

from syncer.errors import CredentialsError
from syncer.server.passwords import PasswordFile, UnusableEntry, check_password, encode_password, unusable_reason

if TYPE_CHECKING:
    from pathlib import Path

KEY = base64.b64encode(bytes(32)).decode()


def pbkdf2(password: str) -> str:
    """Return a $pbkdf2-sha256$ hash, cheap to check."""
    key = hashlib.pbkdf2_hmac("sha256", password.encode(), b"salt", 1000)
    return f"$pbkdf2-sha256$1000${base64.b64encode(b'salt').decode()}${base64.b64encode(key).decode()}"


@pytest.mark.parametrize(
    "entry",
    [encode_password("pässword"), pbkdf2("pässword")],
    ids=["scrypt", "pbkdf2"],
)
def test_own_formats(entry: str) -> None:
    """Our own formats take the password and no other."""
    assert unusable_reason(entry) == ""
    assert check_password("pässword", entry)
    assert not check_password("password", entry)


def test_htpasswd_sha() -> None:
    """Apache's {SHA} is understood; this line is htpasswd's own."""
    entry = "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g="
    assert unusable_reason(entry) == ""
    assert check_password("password", entry)
    assert not check_password("Password", entry)


def test_same_password_other_hash() -> None:
    """Two hashes of one password differ: each has a salt of its own."""
    assert encode_password("x") != encode_password("x")


@pytest.mark.parametrize(
    "entry",
    [
        "",
        "cleartext",
        "$apr1$salt$hash",
        "$6$salt$hash",
        "{SHA}short",
        "{SHA}!",
        "$scrypt$",
        f"$scrypt$16384$8$1${KEY}",
        f"$scrypt$16383$8$1${KEY}${KEY}",
        f"$scrypt$1$8$1${KEY}${KEY}",
        f"$scrypt$1073741824$8$1${KEY}${KEY}",
        f"$scrypt$x$8$1${KEY}${KEY}",
        f"$scrypt$16384$8$1$${KEY}",
        f"$scrypt$16384$8$1${KEY}$AAAA",
        f"$pbkdf2-sha256$0${KEY}${KEY}",
        f"$pbkdf2-sha256$99999999999${KEY}${KEY}",
        f"$pbkdf2-sha256$1000${KEY}$not base64",
    ],
)
def test_unusable(entry: str) -> None:
    """What cannot be checked, or would take the machine, has a reason."""
    assert unusable_reason(entry)


def test_bcrypt_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bcrypt entry is usable exactly when the package is there."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    assert "bcrypt" in unusable_reason("$2y$05$abcdefghijklmnopqrstuv")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: object())
    assert unusable_reason("$2y$05$abcdefghijklmnopqrstuv") == ""


async def test_file(tmp_path: Path) -> None:
    """Users are read, unusable lines are told by number and user, and a line without a user is not repeated."""
    path = tmp_path / "htpasswd"
    path.write_text(f"# comment\n\nann:{pbkdf2('secret')}\nbob:cleartext\nCANARY\n:{pbkdf2('x')}\n")
    passwords = PasswordFile(path)
    unusable = await passwords.load()
    assert [(entry.line, entry.user) for entry in unusable] == [(4, "bob"), (5, ""), (6, "")]
    assert isinstance(unusable[0], UnusableEntry)
    assert "CANARY" not in repr(unusable)
    assert await passwords.verify("ann", "secret")
    assert not await passwords.verify("ann", "wrong")
    assert not await passwords.verify("bob", "cleartext")
    assert not await passwords.verify("", "x")


async def test_slow_hash_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A password that was right is not hashed slowly again; a wrong one is, and so is an unknown user's."""
    path = tmp_path / "htpasswd"
    path.write_text(f"ann:{pbkdf2('secret')}\n")
    passwords = PasswordFile(path)
    checked: list[str] = []

    def check(password: str, entry: str) -> bool:
        checked.append(password)
        return check_password(password, entry)

    monkeypatch.setattr("syncer.server.passwords.check_password", check)
    for user, password in [("ann", "secret"), ("ann", "secret"), ("ann", "wrong"), ("ann", "wrong"), ("eve", "secret")]:
        assert await passwords.verify(user, password) is ((user, password) == ("ann", "secret"))
    assert checked == ["secret", "wrong", "wrong", "secret"]


async def test_trust_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than so many passwords are remembered."""
    monkeypatch.setattr("syncer.server.passwords._TRUSTED", 2)
    path = tmp_path / "htpasswd"
    path.write_text("".join(f"u{number}:{pbkdf2('x')}\n" for number in range(5)))
    passwords = PasswordFile(path)
    for number in range(5):
        assert await passwords.verify(f"u{number}", "x")
    assert len(passwords._trusted) == 2


async def test_file_that_vanishes(tmp_path: Path) -> None:
    """A file that cannot be read is an error at the start; later the last good one stands."""
    path = tmp_path / "htpasswd"
    with pytest.raises(CredentialsError, match="htpasswd"):
        await PasswordFile(path).load()
    path.write_bytes(b"\xff")
    with pytest.raises(CredentialsError):
        await PasswordFile(path).load()
    path.write_text(f"ann:{pbkdf2('secret')}\n")
    passwords = PasswordFile(path)
    await passwords.load()
    path.unlink()
    assert await passwords.verify("ann", "secret")
