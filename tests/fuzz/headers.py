"""The values of headers: challenges, links, locations, ranges, times to wait, allowances."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from yarl import URL

from syncer.errors import ProtocolViolation, RangeRejected
from syncer.registry.auth.challenge import asks_for_token, described, parse_challenges
from syncer.registry.auth.scopes import parse_scopes
from syncer.registry.network.urls import Origin, absolute, links, redact, resolve
from syncer.registry.traffic.allowance import stated
from syncer.registry.traffic.retry import retry_after
from syncer.registry.upload.progress import chunk_minimum, confirms, offset_in_status
from tests.fuzz.stage import CANARY, Family, always, pure
from tests.support.mutating import mutated_bytes

if TYPE_CHECKING:
    from random import Random

_BASES = (URL("https://registry.test/v2/app/blobs/uploads/"), URL("http://registry.test:5000/v2/"))
_TOKENS = (
    b'"', b"\\", b",", b";", b"=", b"<", b">", b" ", b"\t", b"\0", b"\xff", b"Bearer ", b'realm="', b"scope=", b"?",
    b"#", b"@", b"//", b"://", b"..", b"%", b"-", b"9" * 30, b"GMT", b"rel=next", b"r=", b"w=", b"bytes=", b"[::1]",
    b"\r\n",
)  # fmt: skip
_NOW = 1_700_000_000.0


def read(data: bytes) -> None:
    """Give the text to everything that reads headers, as aiohttp would give it."""
    text = data.decode("utf-8", "surrogateescape")
    _read_challenges(text)
    _read_numbers(text)
    refused: ProtocolViolation | None = None
    for target in (*links([text]), *links([text], "last"), text):
        for base in _BASES:
            try:
                _hold(base, resolve(base, target, home=Origin.of(base)))
            except ProtocolViolation as error:
                refused = error
    if refused is not None:
        raise refused
    absolute(text)


def _hold(base: URL, url: URL) -> None:
    assert url.scheme in {"http", "https"}
    assert url.raw_host
    assert url.user is None
    assert not (base.scheme == "https" and url.scheme == "http"), "nobody leads from https to http"
    assert str(url).isascii()
    assert str(url).isprintable()
    assert " " not in str(url)
    assert Origin.of(absolute(str(url))) == Origin.of(url), "a URL read again is the same place"


def _read_challenges(text: str) -> None:
    challenges = parse_challenges([text, text])
    assert len(challenges) <= 16
    described(challenges)
    asks_for_token(RangeRejected(status=403), challenges)
    for challenge in challenges:
        for value in challenge.parameters.values():
            assert value.isascii()
            parse_scopes(value)


def _read_numbers(text: str) -> None:
    for headers in ({"Retry-After": text}, {"Retry-After": text, "Date": text}):
        wait = retry_after(headers, _NOW)
        assert wait is None or (math.isfinite(wait) and wait >= 0)
    for names in (("RateLimit",), ("RateLimit-Remaining", "RateLimit-Reset", "RateLimit-Limit")):
        said = stated(dict.fromkeys(names, text), _NOW)
        assert said is None or said.remaining >= 0
        assert said is None or said.resets_in is None or (math.isfinite(said.resets_in) and said.resets_in >= 0)
    offset = offset_in_status(text)
    assert offset is None or 0 <= offset < 1 << 63
    assert isinstance(confirms(text, 5), bool)
    assert 0 <= chunk_minimum(text) < 1 << 63
    assert CANARY not in redact(text)


def mutate(random: Random, data: bytes) -> bytes:
    """Change a header by its bytes."""
    return mutated_bytes(random, data, _TOKENS)


FAMILY = Family(
    name="headers",
    seeds=always(
        b'Bearer realm="https://auth.test/token",service="registry.test",scope="repository:a/b:pull,push"',
        b'Basic realm="a \\"b\\", c", Bearer realm="https://auth.test/t", error="invalid_token", Negotiate YWJj==',
        b'</v2/app/tags/list?last=b&n=2>; rel="next"',
        b'<https://registry.test/v2/_catalog?n=1>; rel="prev next"; title="a;b,c", </last>; rel=last',
        b"/v2/app/blobs/uploads/0af1?_state=signed%2Bbytes&x=%2f",
        b"//other.test:8443/a/../b;c?d=e#f",
        b"https://registry.test:443/v2/app/blobs/uploads/1?_state=x",
        b"http://registry.test/v2/",
        b"0-1048575",
        b"bytes 10-19/20",
        b"120",
        b"Fri, 31 Dec 1999 23:59:59 GMT",
        b"100;w=21600",
        b'"default";r=0;t=30',
        b"limit=100, remaining=0, reset=1700000030",
    ),
    opened=pure(read),
    mutate=mutate,
)
