"""What stands on a command line: references of every transport, platforms, digests, tags."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from syncer.errors import SyncerError
from syncer.oci import Digest, PathReference, Platform, Reference, parse_reference
from syncer.oci.reference import check_host, check_repository, check_tag
from syncer.oci.referrers import is_companion, is_fallback, subject_of_tag
from tests.fuzz.stage import Family, always, pure
from tests.support.mutating import mutated_bytes

if TYPE_CHECKING:
    from random import Random

_HEX = b"0123456789abcdef" * 4
_TOKENS = (
    b":", b"@", b"/", b"//", b"://", b".", b"..", b"-", b"_", b"[", b"]", b"%2f", b"\n", b"\0", b" ", b"~",
    b"sha256:", b"sha256:" + _HEX, b"docker://", b"oci:", b"oci-archive:", b"docker-archive:", b"dir:", b"\xc2\xb2",
    b"\xff", b"65536",
)  # fmt: skip
#: What may stand in the path of a request (RFC 3986 section 3.3) without being encoded.
_SAFE = re.compile(r"[A-Za-z0-9._:@/\[\]-]+")


def read(data: bytes) -> None:
    """Read the text as everything a command line can hold."""
    text = data.decode("utf-8", "surrogateescape")
    refused: SyncerError | None = None
    for parse in (check_host, check_repository, check_tag, Digest, Platform.parse):
        try:
            parse(text)
        except SyncerError as error:
            refused = error
    subject_of_tag(text)
    assert is_companion(text) or not is_fallback(text)
    try:
        reference = parse_reference(text)
    except SyncerError as error:
        refused = error
    else:
        _hold(reference)
    if refused is not None:
        raise refused


def _hold(reference: Reference | PathReference) -> None:
    if isinstance(reference, Reference):
        assert Reference.parse(str(reference)) == reference, "a reference that is written is read as itself"
        assert _SAFE.fullmatch(str(reference)), "a reference holds nothing that means something else in a URL"
        assert ".." not in f"{reference.repository}/{reference.tag}".split("/")
    else:
        assert parse_reference(str(reference)) == reference, "a reference that is written is read as itself"


def mutate(random: Random, data: bytes) -> bytes:
    """Change a reference by its bytes."""
    return mutated_bytes(random, data, _TOKENS)


FAMILY = Family(
    name="references",
    seeds=always(
        b"alpine",
        b"docker://registry.test:5000/team/app:1.0@sha256:" + _HEX,
        b"[::1]:5000/a/b__c---d.e:latest",
        b"oci:./a/b:1.0",
        b"oci-archive:/tmp/x.tar:1@sha256:" + _HEX,
        b"docker-archive:x.tar:a:b",
        b"dir:/a/b:c@d",
        b"linux/arm64/v8",
        b"sha256-" + _HEX + b".sig",
    ),
    opened=pure(read),
    mutate=mutate,
)
