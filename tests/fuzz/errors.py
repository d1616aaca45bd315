"""The bodies of error answers, with any status and headers."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

from syncer.registry.failures import Answer, failure, parse_error_body
from tests.fuzz.stage import CANARY, Family, always, pure
from tests.support.mutating import mutated_json

if TYPE_CHECKING:
    from random import Random

_STATUSES = (200, 302, 400, 401, 403, 404, 405, 409, 413, 416, 418, 429, 451, 500, 503, 507, 599)
_TOKEN = f"{CANARY}{'A' * 24}"
#: How long what is shown of a body may be.
_LONGEST = 300


def read(data: bytes) -> None:
    """Read the body under every status; the error that it makes has to be one of ours, and short."""
    body = parse_error_body(data)
    assert body.text.isprintable()
    assert len(body.text) <= _LONGEST
    last: Exception | None = None
    for status in _STATUSES:
        answer = Answer(
            registry="registry.test",
            method="PUT",
            url="https://registry.test/v2/",
            asked="registry.test/team/app:1",
            status=status,
            headers={"Retry-After": "5", "WWW-Authenticate": "Basic"},
            body=data,
            wanted=frozenset({201}),
            now=0.0,
            repository="registry.test/team/app",
        )
        last = failure(answer)
    if last is not None:
        raise last


def mutate(random: Random, data: bytes) -> bytes:
    """Change a body by its structure, and now and then send it compressed."""
    made = mutated_json(random, data)
    return gzip.compress(made, 1, mtime=0) if random.random() < 0.1 else made


FAMILY = Family(
    name="errors",
    seeds=always(
        json.dumps(
            {
                "errors": [
                    {
                        "code": "MANIFEST_BLOB_UNKNOWN",
                        "message": "blob unknown",
                        "detail": {"digest": f"sha256:{'a' * 64}"},
                    },
                    {
                        "code": "DENIED",
                        "message": f"refused: Bearer {_TOKEN}",
                        "detail": f"Authorization: Basic {_TOKEN}=",
                    },
                ]
            }
        ).encode(),
        json.dumps({"message": "quota exceeded", "details": f"Bearer {_TOKEN}"}).encode(),
        b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>",
        b"Client sent an HTTP request to an HTTPS server.\n",
        gzip.compress(b'{"errors":[{"code":"TOOMANYREQUESTS"}]}', mtime=0),
    ),
    opened=pure(read),
    mutate=mutate,
)
