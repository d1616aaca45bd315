"""Reading credential files."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.errors import CredentialsError
from syncer.registry.credentials import Anonymous, Basic, Credential, IdentityToken, RegistryToken
from syncer.registry.credentials.authfile import AuthFile, encode_basic, entry_key, parse_auth_file

CANARY = "canary-7f3a"


def parse(document: Any, *, legacy: bool = False) -> AuthFile:
    """Parse a document given as a value."""
    return parse_auth_file(json.dumps(document).encode(), "auth.json", legacy=legacy)


def basic(name: str) -> dict[str, str]:
    """Return an entry whose user and password are ``name``."""
    return {"auth": encode_basic(name, name)}


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("registry.example.com", "registry.example.com"),
        ("Registry.Example.COM:5000", "registry.example.com:5000"),
        ("https://registry.example.com", "registry.example.com"),
        ("http://registry.example.com/some/path", "registry.example.com"),
        ("https://index.docker.io/v1/", "docker.io"),
        ("index.docker.io", "docker.io"),
        ("registry-1.docker.io", "docker.io"),
        ("docker.io/library/alpine", "docker.io/library/alpine"),
        ("registry.example.com/v1/", "registry.example.com"),
        ("registry.example.com/v2", "registry.example.com"),
        ("registry.example.com/team/app/", "registry.example.com/team/app"),
        ("registry.example.com/v1/app", "registry.example.com/v1/app"),
    ],
)
def test_keys_of_every_age_mean_the_same_registry(key: str, expected: str) -> None:
    """A scheme, an API path and the Docker Hub's several names are normalised away."""
    assert entry_key(key) == expected


def test_the_longest_key_wins() -> None:
    """Of host, namespace and repository, the entry nearest to the repository is taken, by whole parts."""
    content = parse({"auths": {"r.io": basic("host"), "r.io/a": basic("ns"), "r.io/a/b": basic("repo")}})
    found = [content.credential("r.io", name) for name in ("a/b", "a/b/c", "a/bc", "ab", "", "a")]
    assert found == [Basic(username=n, password=n) for n in ("repo", "repo", "ns", "host", "host", "ns")]
    assert content.credential("other.io", "a/b") == Anonymous()


def test_an_empty_entry_says_nothing() -> None:
    """The empty entry that docker leaves beside a credential store does not hide a shorter key."""
    content = parse({"auths": {"r.io": basic("host"), "r.io/a": {}}})
    assert content.credential("r.io", "a/b") == Basic(username="host", password="host")


def test_todays_key_comes_before_a_legacy_one() -> None:
    """When a registry is there under both forms of its name, the present form counts, in either order."""
    pairs = [("https://index.docker.io/v1/", basic("old")), ("docker.io", basic("new"))]
    for order in (pairs, pairs[::-1]):
        assert parse({"auths": dict(order)}).credential("docker.io", "") == Basic(username="new", password="new")


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"auth": encode_basic("u", "p:w:d")}, Basic(username="u", password="p:w:d")),
        ({"auth": base64.b64encode(b"u:p\0\0").decode()}, Basic(username="u", password="p")),
        ({"auth": base64.b64encode("ü:ß".encode()).decode() + "\n"}, Basic(username="ü", password="ß")),
        ({"username": "u", "password": "p"}, Basic(username="u", password="p")),
        ({"auth": encode_basic("u", ""), "identitytoken": "t"}, IdentityToken(token="t", username="u")),
        ({"identitytoken": "t"}, IdentityToken(token="t")),
        ({"auth": encode_basic("<token>", "t")}, IdentityToken(token="t")),
        ({"registrytoken": "t", "auth": encode_basic("u", "p")}, RegistryToken(token="t")),
        ({}, Anonymous()),
        ({"auth": ""}, Anonymous()),
        ({"email": "a@b.c"}, Anonymous()),
    ],
)
def test_every_form_of_an_entry_is_read(entry: dict[str, str], expected: Credential) -> None:
    """Base64 pairs, plain pairs, identity tokens and registry tokens are all understood."""
    assert parse({"auths": {"r.io": entry}}).credential("r.io", "a") == expected


@given(
    username=st.text(min_size=1).filter(lambda t: ":" not in t and t != "<token>" and t.strip("\0") == t),
    password=st.text().filter(lambda t: t.rstrip("\0") == t),
)
def test_what_is_encoded_is_read_back(username: str, password: str) -> None:
    """Any user name without a colon and any password survive being written and read."""
    entry = {"auth": encode_basic(username, password)}
    assert parse({"auths": {"r.io": entry}}).credential("r.io", "") == Basic(username=username, password=password)


def test_a_legacy_file_is_the_entries_alone() -> None:
    """A .dockercfg has no auths member."""
    content = parse({"https://r.io/v1/": basic("u")}, legacy=True)
    assert content.credential("r.io", "a") == Basic(username="u", password="u")


def test_helpers_are_chosen_as_docker_does() -> None:
    """CredHelpers come before credsStore, whatever form their key has, and an empty name means the file."""
    content = parse({"credsStore": "pass", "credHelpers": {"https://r.io": "ecr", "plain.io": ""}})
    assert [content.helper(host) for host in ("r.io", "x.io", "plain.io")] == ["ecr", "pass", ""]


@pytest.mark.parametrize("raw", [b"", b"  \n"])
def test_an_empty_file_holds_nothing(raw: bytes) -> None:
    """A file of no bytes is no error."""
    assert parse_auth_file(raw, "x").credential("r.io", "a") == Anonymous()


@pytest.mark.parametrize(
    "raw",
    [
        f'{{"auths": {{"r.io": {{"auth": "{CANARY}" }}'.encode(),
        f'["{CANARY}"]'.encode(),
        f'"{CANARY}"'.encode(),
        f'{{"auths": "{CANARY}"}}'.encode(),
        f'{{"auths": ["{CANARY}"]}}'.encode(),
        f'{{"credsStore": ["{CANARY}"]}}'.encode(),
        f'{{"credHelpers": {{"r.io": ["{CANARY}"]}}}}'.encode(),
        CANARY.encode() + b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_a_broken_file_is_named_and_not_quoted(raw: bytes) -> None:
    """Whatever is wrong, the error names the file, says what to do, and repeats none of the content."""
    with pytest.raises(CredentialsError) as caught:
        parse_auth_file(raw, "/x/auth.json")
    assert "/x/auth.json" in caught.value.message
    assert caught.value.hint
    assert CANARY not in caught.value.paragraph()


@pytest.mark.parametrize("auth", [CANARY, "%%%", base64.b64encode(CANARY.encode()).decode(), "Og==", "/w=="])
def test_a_broken_entry_matters_to_its_own_registry_only(auth: str) -> None:
    """An entry that cannot be decoded fails the registry it is for, without being quoted, and no other."""
    content = parse({"auths": {"bad.io": {"auth": auth}, "good.io": basic("u"), "odd.io": "text"}})
    assert content.credential("good.io", "a") == Basic(username="u", password="u")
    for host in ("bad.io", "odd.io"):
        with pytest.raises(CredentialsError, match=host) as caught:
            content.credential(host, "a")
        assert CANARY not in caught.value.paragraph()


def test_the_content_is_not_shown() -> None:
    """The repr of a file that was read holds no secrets."""
    assert CANARY not in repr(parse({"auths": {"r.io": {"identitytoken": CANARY}}}))
