"""Documents with something wrong in one place: JSON that is changed by its structure, and bytes by their positions.

What a mutator draws comes from one ``Random``: hypothesis lends one that shrinks, a driver one that has a seed.
Nothing here knows the parsers that are looked at.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

    Mutator = Callable[[Random, bytes], bytes]

#: The longest document that is made of another one, in bytes.
LONGEST = 1 << 20
#: Bytes that repeating one value may add.
_MOST_REPEATED = 1 << 18


class Raw(str):
    """A piece of JSON that is written as it stands; surrogates U+DC80 to U+DCFF stand for single bytes."""

    __slots__ = ()


class Members(list[tuple[Any, Any]]):
    """An object as the list of its members, so that a name may come twice."""


def nested(depth: int, *, mapping: bool = False) -> Raw:
    """Return lists, or objects, ``depth`` deep."""
    return Raw('{"a":' * depth + "0" + "}" * depth) if mapping else Raw("[" * depth + "]" * depth)


#: What stands in place of a value: wrong types, numbers without bounds, text that no text should be.
ODD: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1 << 63,
    1.5,
    "",
    " ",
    [],
    [None],
    Members(),
    Members([("digest", 1)]),
    Raw("NaN"),
    Raw("-Infinity"),
    Raw("1e999"),
    Raw("-0"),
    Raw("1" + "0" * 400),
    Raw("9" * 5000),
    Raw('"\\u0000"'),
    Raw('"\\ud800"'),
    Raw('"\\u202e\\u001b[2J"'),
    Raw('"\udced\udca0\udc80"'),
    Raw('"\udcff\udcfe"'),
    Raw("'single'"),
    "a" * 70_000,
    "\u00e9\u4e2d\U0001f600",
    "../../../etc/passwd",
    "sha256:../../etc/passwd",
    "sha256:" + "0" * 64,
    "SHA256:" + "A" * 64,
    "md5:" + "0" * 32,
    "http://user:password@other.test/?token=abc",
    "a/b@sha256:c:d",
)
_TOKENS = (
    b"\0",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\r\n",
    b'"',
    b"\\",
    b",",
    b"{",
    b"[",
    b"]",
    b"}",
    b"-1",
    b"9" * 20,
    b"%00",
)


def emit(value: Any) -> bytes:
    """Return ``value`` as JSON, :class:`Raw` pieces and :class:`Members` as they are."""
    return _text(value).encode("utf-8", "surrogateescape")


def _text(value: Any) -> str:
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, Members):
        return "{" + ",".join(f"{_text(name)}:{_text(item)}" for name, item in value) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_text, value)) + "]"
    return json.dumps(value)


def mutated_json(random: Random, data: bytes) -> bytes:
    """Change one to three places of a JSON document by its structure; bytes that are none by their positions."""
    try:
        document = json.loads(data, object_pairs_hook=Members)
    except (ValueError, RecursionError):
        return mutated_bytes(random, data)
    if random.random() < 0.2:
        return mutated_bytes(random, data)
    root = [document]
    try:
        for _ in range(random.choice((1, 1, 1, 2, 3))):
            _change(random, root)
        made = emit(root[0])[:LONGEST]
    except RecursionError:
        return mutated_bytes(random, data)
    return made if random.random() < 0.9 else mutated_bytes(random, made)


def _places(value: Any) -> list[tuple[Any, int]]:
    """Return every place as the container and the position in it."""
    found: list[tuple[Any, int]] = []
    pending = [value]
    while pending:
        container = pending.pop()
        for at in range(len(container)):
            found.append((container, at))
            item = container[at][1] if isinstance(container, Members) else container[at]
            if isinstance(item, list):
                pending.append(item)
    return found


def _change(random: Random, root: list[Any]) -> None:
    places = _places(root)
    container, at = random.choice(places)
    match random.choice(("odd", "odd", "odd", "deep", "drop", "twice", "rename", "borrow", "wrap", "many")):
        case "odd":
            _put(container, at, random.choice(ODD))
        case "deep":
            depth = random.choice((30, 300, 900 + random.randrange(120), 5000, 100_000))
            _put(container, at, nested(depth, mapping=random.random() < 0.5))
        case "drop" if container is not root:
            del container[at]
        case "twice":
            container.insert(at, container[at])
        case "rename" if isinstance(container, Members):
            _rename(random, container, at)
        case "borrow":
            other, where = random.choice(places)
            if where < len(other):
                _put(container, at, _get(other, where))
        case "wrap":
            _put(container, at, random.choice(([_get(container, at)], Members([("a", _get(container, at))]))))
        case "many":
            _repeat(container, at, random.choice((2, 100, 12_000)))
    del root[1:]


def _repeat(container: Any, at: int, times: int) -> None:
    """Append what stands at a place again and again, as long as that stays within reason."""
    item = container[at]
    name, value = item if isinstance(container, Members) else ("", item)
    value = Raw(_text(value))
    times = min(times, _MOST_REPEATED // (len(value) + 1))
    container.extend([(name, value) if isinstance(container, Members) else value] * times)


def _rename(random: Random, container: Members, at: int) -> None:
    name, value = container[at]
    other = random.choice(container)[0]
    if isinstance(name, str):
        container[at] = (random.choice((name.upper(), name.title(), name + " ", "", "__class__", other)), value)


def _get(container: Any, at: int) -> Any:
    return container[at][1] if isinstance(container, Members) else container[at]


def _put(container: Any, at: int, value: Any) -> None:
    # What is taken from elsewhere in the document is taken as text: a list must not come to hold itself.
    value = Raw(_text(value)) if isinstance(value, list) else value
    container[at] = (container[at][0], value) if isinstance(container, Members) else value


def mutated_bytes(random: Random, data: bytes, tokens: Sequence[bytes] = _TOKENS) -> bytes:
    """Change bytes of ``data`` by their positions: flip, cut, repeat, insert, or wrap the whole in another encoding."""
    for _ in range(random.choice((1, 1, 2, 4))):
        at = random.randrange(len(data) + 1)
        end = min(len(data), at + random.choice((1, 1, 4, 16, 64, 512)))
        match random.choice(("flip", "flip", "truncate", "cut", "repeat", "insert", "insert", "replace", "whole")):
            case "flip" if at < len(data):
                data = data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1 :]
            case "truncate":
                data = data[:at]
            case "cut":
                data = data[:at] + data[end:]
            case "repeat":
                data = data[:at] + data[at:end] * random.choice((2, 3, 50)) + data[end:]
            case "insert":
                data = data[:at] + random.choice(tokens) * random.choice((1, 1, 1, 2000)) + data[at:]
            case "replace":
                data = data[:at] + random.randbytes(end - at) + data[end:]
            case "whole":
                data = _whole(random, data)
        data = data[:LONGEST]
    return data


def _whole(random: Random, data: bytes) -> bytes:
    text = data.decode("utf-8", "replace")
    return random.choice(
        (
            b"\xef\xbb\xbf" + data,
            text.encode("utf-16"),
            text.encode("utf-32-le"),
            data + data,
            data + b"\0" * 512,
            b"",
            data.upper(),
            data.replace(b"\n", b"\r\n"),
        )
    )
