"""Tokens and scopes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from syncer.server.settings import Action
from syncer.server.tokens import MAX_SCOPES, Claims, format_scope, parse_scopes, read, sign

SECRET = b"s" * 32
PULL, PUSH, DELETE, CATALOG = Action
CLAIMS = Claims(user="ann", service="syncer", expires=1000, access={"repository:a/b": frozenset({PULL, PUSH})})


def test_round_trip() -> None:
    """What was signed is read back, until it expires, by the same service and secret only."""
    token = sign(CLAIMS, SECRET)
    assert read(token, SECRET, service="syncer", now=999.9) == CLAIMS
    assert read(token, SECRET, service="syncer", now=1000) is None
    assert read(token, SECRET, service="other", now=0) is None
    assert read(token, b"t" * 32, service="syncer", now=0) is None


@given(at=st.integers(0, 10_000), letter=st.sampled_from("AZaz09-_."))
def test_any_change_is_noticed(at: int, letter: str) -> None:
    """A token with another character anywhere is no token, or says the same."""
    token = sign(CLAIMS, SECRET)
    at %= len(token)
    changed = token[:at] + letter + token[at + 1 :]
    assert read(changed, SECRET, service="syncer", now=0) in (None, CLAIMS)


@given(text=st.text(max_size=200))
def test_garbage(text: str) -> None:
    """Nothing that is not signed is read, and nothing raises."""
    assert read(text, SECRET, service="syncer", now=0) is None


def test_huge_token() -> None:
    """A token of absurd length is not looked into."""
    assert read("x" * 100_000 + ".y", SECRET, service="syncer", now=0) is None


def test_parse_scopes() -> None:
    """Scopes are split at spaces, merged by resource, and read by Docker's grammar."""
    scopes = [
        "repository:a/b:pull repository:a/b:push,unknown",
        "repository(plugin):c:*",
        "repository:host:5000/d:delete",
        "registry:catalog:*",
        "other:x:pull",
        "nonsense",
        "repository::pull",
        "",
    ]
    assert parse_scopes(scopes) == {
        "repository:a/b": frozenset({PULL, PUSH}),
        "repository:c": frozenset({PULL, PUSH, DELETE}),
        "repository:host:5000/d": frozenset({DELETE}),
        "registry:catalog": frozenset({CATALOG}),
    }


def test_many_scopes_are_cut() -> None:
    """A token holds a bounded number of scopes."""
    assert len(parse_scopes([f"repository:r{number}:pull" for number in range(1000)])) == MAX_SCOPES


def test_format_scope() -> None:
    """A scope for push asks for pull too, in the usual order; the catalog's is always the same."""
    assert format_scope("repository:a", {PUSH}) == "repository:a:pull,push"
    assert format_scope("repository:a", {DELETE}) == "repository:a:delete"
    assert format_scope("registry:catalog", {CATALOG}) == "registry:catalog:*"
