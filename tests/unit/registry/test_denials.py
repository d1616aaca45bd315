"""What a registry denies for good."""

from __future__ import annotations

import pytest
from yarl import URL

from syncer.errors import Denied, QuotaExceeded, RateLimited, Side, StatusError, Unauthorized
from syncer.events import RequestKind
from syncer.registry.auth.denials import Denials, echo
from syncer.registry.auth.scopes import Scope
from syncer.registry.call import Call

DENIED = Denied("denied", status=403, codes=("DENIED",), registry="r.io", method="GET", url="u", hint="h")
REFUSED = Unauthorized("refused", status=401, registry="r.io")


class Now:
    """A clock that is moved by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def call(method: str, path: str, *names: str) -> Call:
    """Return a call about the repositories ``names``."""
    return Call(
        kind=RequestKind.MANIFEST_GET,
        method=method,
        url=URL(f"https://r.io/v2/{path}", encoded=True),
        asked="r.io/a",
        scopes=tuple(Scope.repository(name, "pull") for name in names),
    )


def is_denied(denials: Denials, asked: Call) -> bool:
    """Tell whether a call is refused without being sent."""
    try:
        denials.check(asked)
    except StatusError:
        return True
    return False


def test_three_denials_speak_for_the_repository() -> None:
    """After three different requests were denied, others of the kind are, and no other kind and repository."""
    denials = Denials(Now())
    for number in (1, 2, 2, 2):
        denials.note(call("GET", f"a/manifests/{number}", "a"), DENIED)
        assert not is_denied(denials, call("GET", "a/manifests/9", "a"))
    denials.note(call("GET", "a/manifests/3", "a"), DENIED)
    assert is_denied(denials, call("GET", "a/manifests/9", "a"))
    assert not is_denied(denials, call("PUT", "a/manifests/9", "a"))
    assert not is_denied(denials, call("GET", "b/manifests/9", "b"))
    denials.clear(call("HEAD", "a/manifests/1", "a"))
    assert not is_denied(denials, call("GET", "a/manifests/9", "a"))


def test_denied_upload_speaks_for_all() -> None:
    """An upload is not about one image: one denial is enough, and for a deletion it says nothing."""
    denials = Denials(Now())
    denials.note(call("POST", "a/blobs/uploads/", "a"), DENIED)
    assert is_denied(denials, call("PUT", "a/manifests/1", "a"))
    assert is_denied(denials, call("PATCH", "a/blobs/uploads/1", "a"))
    assert not is_denied(denials, call("DELETE", "a/manifests/1", "a"))


def test_reading_says_nothing_of_a_refused_upload() -> None:
    """What may be read may still not be written; a write that works, or a repository made anew, ends the denial."""
    denials = Denials(Now())
    upload = call("POST", "a/blobs/uploads/", "a")
    denials.note(upload, DENIED)
    denials.clear(call("GET", "a/manifests/1", "a"))
    assert is_denied(denials, upload)
    assert is_denied(denials, call("POST", "a/blobs/uploads/?mount=x&from=b", "a", "b"))
    denials.clear(call("PUT", "a/manifests/1", "a"))
    assert not is_denied(denials, upload)
    denials.note(upload, DENIED)
    denials.clear_repository("a")
    assert not is_denied(denials, upload)


def test_refused_token_holds_for_half_a_minute() -> None:
    """What a fresh token was refused is refused again for 30 seconds."""
    clock = Now()
    denials = Denials(clock)
    denials.note(call("GET", "a/manifests/1", "a"), REFUSED)
    clock.now = 29.9
    assert is_denied(denials, call("GET", "a/tags/list", "a"))
    clock.now = 30.0
    assert not is_denied(denials, call("GET", "a/tags/list", "a"))
    assert not is_denied(denials, call("GET", "a/tags/list", "a"))


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        (call("HEAD", "a/manifests/1", "a"), DENIED),
        (call("POST", "a/blobs/uploads/?mount=x&from=a", "a"), DENIED),
        (call("POST", "a/blobs/uploads/", "a", "b"), DENIED),
        (call("GET", "_catalog"), DENIED),
        (call("POST", "a/blobs/uploads/", "a"), Denied("by policy", status=412)),
        (call("POST", "a/blobs/uploads/", "a"), QuotaExceeded("full", status=403)),
        (call("POST", "a/blobs/uploads/", "a"), RateLimited("slow", status=429)),
    ],
)
def test_what_says_nothing_of_a_right(asked: Call, error: StatusError) -> None:
    """A HEAD, a mount, a catalog, a policy, a quota or a limit is no missing right."""
    denials = Denials(Now())
    for _ in range(5):
        denials.note(asked, error)
    assert not is_denied(denials, call("POST", "a/blobs/uploads/", "a"))
    assert not is_denied(denials, asked)


def test_an_echo_says_the_same() -> None:
    """Each task gets an error of its own, with everything in it; marking one leaves the others as they are."""
    first = echo(DENIED)
    first.side = Side.SOURCE
    second = echo(DENIED)
    assert (type(second), second.message, second.hint, second.codes, second.status, second.side) == (
        Denied,
        "denied",
        "h",
        ("DENIED",),
        403,
        None,
    )
    assert str(second) == "denied"
    assert second is not first
