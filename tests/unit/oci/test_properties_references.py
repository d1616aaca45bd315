"""References, names, tags and digests against the regular expressions of the distribution-spec."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from syncer.errors import InvalidDigest, InvalidReference
from syncer.oci.digest import Digest, is_digest
from syncer.oci.reference import Reference, check_repository, check_tag, is_tag
from tests.support.searching import searched

pytestmark = pytest.mark.untraced

#: distribution-spec, "Pulling manifests", as it is written there.
_NAME = re.compile(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
#: image-spec, descriptor.md, for the two algorithms that it registers.
_DIGEST = re.compile(r"sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128}")

_PARTS = st.from_regex(r"[a-z0-9]+(?:(?:\.|_|__|-{1,3})[a-z0-9]+){0,2}", fullmatch=True).filter(
    lambda part: len(part) < 30
)
_NAMES = st.lists(_PARTS, min_size=1, max_size=4).map("/".join)
_TAGS = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,40}", fullmatch=True)
_DIGESTS = st.binary(max_size=4).map(Digest.of)
_HOSTS = st.one_of(
    st.from_regex(r"[a-z0-9]{1,8}(?:-[a-z0-9]{1,4})?(?:\.[a-z0-9]{1,6}){1,2}", fullmatch=True),
    st.just("localhost"),
    st.just("[::1]:5000"),
    st.tuples(st.from_regex(r"[a-z]{1,8}", fullmatch=True), st.integers(1, 65535)).map(lambda p: f"{p[0]}:{p[1]}"),
)
#: Letters of the grammars, and those that lead out of them: separators, controls, other scripts' digits and letters.
_NEAR = st.text(
    st.sampled_from(string.ascii_lowercase[:4] + "AZ019._-/:@%\\ \n\r\t\x00\u0661\u00e9\u212a"), max_size=14
)


def accepts(check: object, text: str) -> bool:
    """Tell whether ``check`` takes ``text``, and gives it back as it is."""
    assert callable(check)
    try:
        return bool(check(text) == text)
    except InvalidReference:
        return False


@searched
@given(_NEAR | _NAMES)
@example("a\n")
@example("a__b")
@example("a___b")
@example("a..b")
@example("a-.b")
@example("a--b")
@example("../a")
@example("a//b")
def test_names_are_those_of_the_specification(text: str) -> None:
    """A repository name is taken exactly when the specification's expression, within 255 characters, takes it."""
    assert accepts(check_repository, text) == (_NAME.fullmatch(text) is not None and len(text) <= 255)


@searched
@given(_NEAR | _TAGS)
@example("a\n")
@example("a" * 128)
@example("a" * 129)
@example(".a")
def test_tags_are_those_of_the_specification(text: str) -> None:
    """A tag is taken exactly when the specification's expression takes it."""
    assert accepts(check_tag, text) == (_TAG.fullmatch(text) is not None) == is_tag(text)


@searched
@given(
    st.tuples(
        st.sampled_from(["sha256", "sha512", "SHA256", "md5", ""]), st.text("0123456789abcdefg", max_size=130)
    ).map(":".join)
    | _DIGESTS
    | st.tuples(_DIGESTS, st.sampled_from(["\n", " ", "a", "/..", "?x", "%2f", "\x00"])).map("".join)
)
def test_digests_are_those_of_the_specification(text: str) -> None:
    """A digest is taken exactly when the specification's expression takes it."""
    assert is_digest(text) == (_DIGEST.fullmatch(text) is not None)


@searched
@given(_HOSTS, _NAMES, _TAGS | st.just(""), _DIGESTS | st.none(), st.sampled_from(["", "docker://"]))
def test_references_round_trip(host: str, name: str, tag: str, digest: Digest | None, transport: str) -> None:
    """A reference that is put together is taken apart into the same parts, and written as it was."""
    text = f"{host}/{name}" + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")
    parsed = Reference.parse(transport + text)
    assert (parsed.registry, parsed.repository, parsed.tag, parsed.digest) == (host, name, tag, digest)
    assert str(parsed) == text
    assert parsed == Reference.parse(str(parsed))


@searched
@given(_HOSTS, _NAMES, st.tuples(_TAGS, _DIGESTS), st.integers(0, 10**6), st.sampled_from('\n\r\t \x00\\"<>{}|^`%?#@:'))
def test_a_character_too_much_is_refused_or_changes_nothing_else(
    host: str, name: str, rest: tuple[str, Digest], where: int, character: str
) -> None:
    """A character that no part may hold makes no reference, wherever it stands; a separator never hides in a part."""
    text = f"{host}/{name}:{rest[0]}@{rest[1]}"
    at = where % (len(text) + 1)
    changed = text[:at] + character + text[at:]
    try:
        parsed = Reference.parse(changed)
    except InvalidReference:
        return
    assert character in "@:"
    assert _NAME.fullmatch(parsed.repository)
    assert not parsed.tag or _TAG.fullmatch(parsed.tag)
    assert not set("@/\\?#%") & set(parsed.registry)


@searched
@given(_NEAR)
def test_what_is_a_digest_is_safe_in_a_path(text: str) -> None:
    """No near-digest of a known algorithm passes with a separator or a control character in it (S3)."""
    for algorithm in ("sha256", "sha512"):
        with pytest.raises(InvalidDigest):
            Digest(f"{algorithm}:{text}")
