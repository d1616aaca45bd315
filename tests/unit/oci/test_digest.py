"""Digests: the grammar that stands between a manifest and a path."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.errors import InvalidDigest
from syncer.oci.digest import Digest, is_digest

EMPTY = hashlib.sha256(b"").hexdigest()


@pytest.mark.untraced
@given(st.binary(max_size=200), st.sampled_from(["sha256", "sha512"]))
def test_of_and_matches_agree_with_hashlib(data: bytes, algorithm: str) -> None:
    """The digest of some bytes matches these bytes and no others."""
    digest = Digest.of(data, algorithm)
    assert digest == f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"
    assert digest.matches(data)
    assert not digest.matches(data + b"x")
    assert (digest.algorithm, digest.encoded) == tuple(digest.split(":"))
    assert digest.short == digest.encoded[:12]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256",
        "sha256:",
        f"sha256:{EMPTY.upper()}",
        f"sha256:{EMPTY[:-1]}",
        f"sha256:{EMPTY}0",
        f"sha256:{EMPTY}\n",
        f"sha512:{EMPTY}",
        f"md5:{'0' * 32}",
        f"sha256:../../../../{EMPTY[12:]}",
        f"sha256:{'%2e' * 21}0",
        f"SHA256:{EMPTY}",
        f" sha256:{EMPTY}",
    ],
)
def test_what_breaks_the_grammar_is_refused(text: str) -> None:
    """Nothing but lower-case hex of the right length becomes a digest (CVE-2024-3727)."""
    assert not is_digest(text)
    with pytest.raises(InvalidDigest, match="invalid digest") as caught:
        Digest(text)
    assert "64 hex digits" in caught.value.hint


@pytest.mark.untraced
@given(st.text(max_size=80))
def test_any_text_is_a_digest_or_an_error(text: str) -> None:
    """No text makes the parser fail in another way, and what passes is unchanged."""
    try:
        assert Digest(text) == text
    except InvalidDigest:
        assert not is_digest(text)


def test_a_checked_digest_is_not_checked_again() -> None:
    """A digest passes through its own constructor as the same object."""
    digest = Digest(f"sha256:{EMPTY}")
    assert Digest(digest) is digest
    assert digest.hasher().hexdigest() == EMPTY
