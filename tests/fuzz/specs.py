"""Specs: YAML by its bytes and by its words; and plans."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from syncer.oci import Digest
from syncer.plan.actions import Action, ActionKind, Reason
from syncer.plan.document import Plan, dump_plan, parse_plan
from syncer.spec.loader import load_spec
from tests.fuzz.documents import strict
from tests.fuzz.stage import CANARY, Family, pure
from tests.support.mutating import mutated_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

    from tests.fuzz.stage import Reader

_ENVIRON = {"SECRET": f"{CANARY}-of-the-environment", "EMPTY": "", "SPACED": f" {CANARY} of two words "}
_TOKENS = (
    b"&a ", b"*a", b"<<: *a\n", b"!!binary ", b"!!python/object:os.system ", b"!t ", b"%YAML 1.1\n---\n",
    b"%YAML 9.9\n---\n", b"%TAG ! tag:x,2000:\n---\n", b"---\n", b"...\n", b"? ", b": ", b"- ", b"|\n", b">-\n", b'"',
    b"'", b"\\x", b"\\u12", b"\t", b"\r", b"{", b"}", b"[", b"]", b",", b"#", b"${", b"${SECRET}", b"${UNSET}",
    b"${EMPTY:-x}", b"$$", b"re:(a+)+$", b"re:[", b"**", b"{path}", b"{0}", b"9" * 5000, b"0x1F", b"1e999", b".nan",
    b"1:20", b"yes", b"null", b"~", b"=", b"\xef\xbb\xbf", b"\xff", b"\0", b"\xe2\x80\xa8", b"[" * 300, b"- " * 300,
    b"\n", b"\n  ", b"\n    ",
)  # fmt: skip
_SMALL = b"""version: 1
state: ./state.db
registries:
  a: {host: registry.test, credentials: {username: u, password: "${SECRET}"}, tls: {ca: ./ca.pem}}
  b: {host: other.test:5000, plain_http: true, limits: {connections: 3, requests_per_second: 1.5, bandwidth: 10MiB/s}}
  c: {layout: ./carried}
defaults: {platforms: [linux/amd64], referrers: true}
sync:
  - {name: one, from: a/team/*, to: "b/mirror/{path}", tags: {include: ["1.*", "re:v[0-9]"], exclude: [x]}}
  - {name: two, from: a/x, to: c/x, platforms: all}
"""


@contextmanager
def opened(folder: Path) -> Iterator[Reader]:
    """Give a reader of specs."""
    path = folder / "spec.yaml"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        spec = load_spec(path, _ENVIRON)
        assert CANARY not in repr(spec), "a spec does not show the secrets in it"

    yield read


def read_plan(data: bytes) -> None:
    """Read a plan; what is taken can be written as JSON, and is then read as itself."""
    plan = parse_plan(data.decode("utf-8", "surrogateescape"))
    text = dump_plan(plan)
    strict(text.encode("utf-8", "backslashreplace"))
    assert parse_plan(text) == plan
    assert len(plan.due) + len(plan.failures) <= len(plan.actions)


def mutate(random: Random, data: bytes) -> bytes:
    """Change a spec by its bytes, or by its words."""
    words = data.split(b" ")
    if random.random() < 0.4:
        at = random.randrange(len(words))
        words[at] = random.choice((random.choice(_TOKENS), random.choice(words), b"", words[at] * 3))
        return b" ".join(words)
    return mutated_bytes(random, data, _TOKENS)


def _plan() -> bytes:
    actions = [
        Action(
            kind=kind,
            reason=reason,
            entry="one",
            source="registry.test/a",
            target="other.test/a",
            tag=f"{at}.0",
            digest=Digest.of(b"a"),
            previous=Digest.of(b"b") if at else None,
        )
        for at, (kind, reason) in enumerate(zip(ActionKind, Reason, strict=False))
    ]
    return dump_plan(Plan.of(actions, spec="spec.yaml")).encode()


SPECS = Family(
    name="specs",
    is_slow=True,
    seeds=lambda: (
        _SMALL,
        (Path(__file__).parents[2] / "config.example.yaml").read_bytes(),
        json.dumps({"version": 1}).encode(),
    ),
    opened=opened,
    mutate=mutate,
    has_secrets=True,
)
PLANS = Family(name="plans", seeds=lambda: (_plan(),), opened=pure(read_plan))
