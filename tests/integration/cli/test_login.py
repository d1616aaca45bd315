"""Logging in and out."""

from __future__ import annotations

import base64
import io
import json
from typing import TYPE_CHECKING

import pytest

from tests.support.images import image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.integration.cli.conftest import Ran, Serve

    Syncer = Callable[..., Ran]

SAMPLE = image(seed="login")
PASSWORD = "CANARY-right"


@pytest.fixture
def htpasswd(tmp_path: Path) -> Path:
    """Give a password file in which bob has a password."""
    import hashlib  # noqa: PLC0415 - only to make the file

    digest = base64.b64encode(hashlib.sha1(PASSWORD.encode()).digest()).decode()  # noqa: S324 - the file's format
    path = tmp_path / "htpasswd"
    path.write_text(f"bob:{{SHA}}{digest}\n")
    return path


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put text on standard input."""

    def put(text: str) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO(text))

    return put


@pytest.mark.parametrize("auth", ["basic", "token"])
def test_credentials_are_verified_kept_used_and_removed(
    syncer: Syncer, serve: Serve, htpasswd: Path, typed: Callable[[str], None], auth: str
) -> None:
    """After a login other commands get in; after the logout they do not."""
    authfile = str(htpasswd.with_name("auth.json"))
    with serve("locked", {"x:v1": SAMPLE}, auth=auth, htpasswd=htpasswd) as registry:
        refused = syncer("list-tags", f"{registry.host}/x", "--authfile", authfile)
        typed(f"{PASSWORD}\n")
        entered = syncer("login", registry.host, "-u", "bob", "--password-stdin", "--authfile", authfile)
        listed = syncer("list-tags", f"{registry.host}/x", "--authfile", authfile)
        left = syncer("logout", registry.host, "--authfile", authfile, "--output", "json")
        again = syncer("list-tags", f"{registry.host}/x", "--authfile", authfile)
    assert (refused.code, entered.code, listed.code, left.code, again.code) == (8, 0, 0, 0, 8), entered.err
    assert "Logged in" in entered.out
    assert len(json.loads(left.out)["removed"]) == 1
    assert PASSWORD not in entered.out + entered.err + refused.err + again.err


@pytest.mark.parametrize("auth", ["basic", "token"])
def test_a_wrong_password_is_not_kept(
    syncer: Syncer, serve: Serve, htpasswd: Path, typed: Callable[[str], None], auth: str
) -> None:
    """The registry is asked first; what it refuses is not written, and not shown."""
    authfile = htpasswd.with_name("auth.json")
    with serve("locked", auth=auth, htpasswd=htpasswd) as registry:
        typed("CANARY-wrong")
        ran = syncer("login", registry.host, "-u", "bob", "--password-stdin", "--authfile", str(authfile))
    assert ran.code == 8
    assert not authfile.exists()
    assert "CANARY" not in ran.out + ran.err


def test_a_registry_that_does_not_ask_is_told(
    syncer: Syncer, serve: Serve, tmp_path: Path, typed: Callable[[str], None]
) -> None:
    """An open registry verifies nothing, and the result says so."""
    with serve("open") as registry:
        typed("whatever")
        ran = syncer(
            "login",
            registry.host,
            "-u",
            "bob",
            "--password-stdin",
            "--authfile",
            str(tmp_path / "a"),
            "--output",
            "json",
        )
    assert json.loads(ran.out)["verified"] is False


@pytest.mark.parametrize(
    ("arguments", "text", "fragment"),
    [
        (("--password-stdin",), "secret", "needs a user name"),
        (("--password-stdin", "-u", "bob"), "", "no password on standard input"),
        (("-u", "bob"), "", "no terminal"),
        (("-u", "bob", "--password", "CANARY"), "", "has no option --password"),
    ],
)
def test_passwords_come_from_a_terminal_or_a_pipe(
    syncer: Syncer, typed: Callable[[str], None], arguments: tuple[str, ...], text: str, fragment: str
) -> None:
    """There is no other way to give one, and what is missing is told."""
    typed(text)
    ran = syncer("login", "registry.example", *arguments)
    assert ran.code == 2
    assert fragment in ran.error
    assert "CANARY" not in ran.err


def test_logging_out_where_nobody_is_logged_in(syncer: Syncer) -> None:
    """Nothing is removed, and that is no error."""
    ran = syncer("logout", "registry.example")
    assert ran.code == 0
    assert ran.out == "Nothing is kept for registry.example.\n"
