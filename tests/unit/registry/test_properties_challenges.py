"""The challenge parser against the grammar of RFC 9110: any layout, any mutation, any size."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from syncer.registry.auth.challenge import Challenge, parse_challenges
from tests.support.searching import searched

pytestmark = pytest.mark.untraced

# ---------------------------------------------------------------------------------- a second parser, from the ABNF
#
# RFC 9110: token (5.6.2), quoted-string (5.6.4), #rule with empty elements (5.6.1.2), BWS (5.6.3),
# auth-param and token68 (11.2), challenge (11.3). It splits a header into elements first, by the
# quoted strings, and then tries each element against the productions; it is slow and has no cursor.

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED = r'"(?:[\t \x21\x23-\x5B\x5D-\x7E\x80-\xFF]|\\[\t \x21-\x7E\x80-\xFF])*"'
_PARAMETER = rf"({_TOKEN})[ \t]*=[ \t]*({_TOKEN}|{_QUOTED})"
_TOKEN68 = r"[A-Za-z0-9\-._~+/]+=*"


def elements_of(header: str) -> list[str] | None:
    """Split at commas outside quoted strings; None when a quoted string does not end."""
    pieces = re.findall(rf'{_QUOTED}|[^",]|,|"', header)
    if '"' in pieces:
        return None
    elements = [""]
    for piece in pieces:
        if piece == ",":
            elements.append("")
        else:
            elements[-1] += piece
    return [stripped for element in elements if (stripped := element.strip(" \t"))]


def value_of(text: str) -> str:
    """Return what a token or quoted string stands for."""
    return re.sub(r"\\(.)", r"\1", text[1:-1]) if text.startswith('"') else text


def reference(header: str) -> list[Challenge] | None:
    """Return the challenges of a header that follows the grammar; None for one that does not."""
    elements = elements_of(header)
    if elements is None:
        return None
    found: list[tuple[str, str, dict[str, str]]] = []
    for element in elements:
        parameter = re.fullmatch(_PARAMETER, element)
        if parameter:
            # Only a challenge with parameters, or with none yet, goes on.
            if not found or found[-1][1]:
                return None
        else:
            start = re.fullmatch(rf"({_TOKEN})(?: +(?:({_TOKEN68})|({_PARAMETER})))?", element)
            if start is None:
                return None
            found.append((start[1].lower(), start[2] or "", {}))
            parameter = re.fullmatch(_PARAMETER, start[3]) if start[3] else None
        if parameter:
            value = value_of(parameter[2])
            if value.isascii():
                found[-1][2].setdefault(parameter[1].lower(), value)
    return [Challenge(scheme=scheme, token68=text, parameters=values) for scheme, text, values in found]


# ---------------------------------------------------------------------------------- headers by the grammar

_TOKENS = st.text(st.sampled_from("abcdXYZ0189-_.!~+*'"), min_size=1, max_size=8)
_NAMES = st.sampled_from(["realm", "Service", "scope", "ERROR", "x-y"]) | _TOKENS
_VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20) | st.sampled_from(
    ["https://a/t?x=1,y=2", 'say "no", please', "repository:a/b:pull,push", "\\", '"', "a\tb", ""]
)
_BLANK = st.sampled_from(["", " ", "\t", "  "])


@st.composite
def headers(draw: st.DrawFn) -> str:
    """Write up to four challenges in one of the layouts that the grammar allows."""
    written = []
    for _ in range(draw(st.integers(0, 4))):
        scheme = draw(_TOKENS)
        if draw(st.booleans()):
            form = draw(st.sampled_from(["bare", "token68"]))
            written.append(scheme if form == "bare" else f"{scheme} {draw(st.from_regex(_TOKEN68, fullmatch=True))}")
            continue
        parameters = [
            f"{draw(_NAMES)}{draw(_BLANK)}={draw(_BLANK)}{draw(_TOKENS) if draw(st.booleans()) else _quoted(draw)}"
            for _ in range(draw(st.integers(1, 4)))
        ]
        written.append(f"{scheme}{' ' * draw(st.integers(1, 3))}{parameters[0]}")
        written.extend(parameters[1:])
    comma = st.sampled_from([",", ", ", " ,\t", ", ,", ",,"])
    text = draw(st.sampled_from(["", ",", " , "]))
    for at, element in enumerate(written):
        text += (draw(comma) if at else "") + element
    return text + draw(st.sampled_from(["", ",", " ,"]))


def _quoted(draw: st.DrawFn) -> str:
    """Write a value as a quoted string, with an escape now and then where none is needed."""
    return '"' + "".join(f"\\{c}" if c in '"\\' or draw(st.integers(0, 9)) == 0 else c for c in draw(_VALUES)) + '"'


@searched
@given(headers())
@example("Basic realm=")
@example("Negotiate a=b")
@example("Negotiate a==, x=y")
@example('a b="c"d')
def test_headers_by_the_grammar(header: str) -> None:
    """In whatever layout challenges are written, both parsers read the same."""
    expected = reference(header)
    if expected is not None:
        assert expected == parse_challenges([header])


@searched
@given(headers(), st.integers(0, 10**6), st.sampled_from(',"=\\ \tx\x80'), st.booleans())
def test_headers_nearly_by_the_grammar(header: str, where: int, character: str, cut: bool) -> None:  # noqa: FBT001 - drawn by hypothesis
    """One character more or less: where the result is still by the grammar, both parsers read the same."""
    at = where % (len(header) + 1)
    changed = header[:at] + header[at + 1 :] if cut else header[:at] + character + header[at:]
    found = parse_challenges([changed])
    expected = reference(changed)
    if expected is not None:
        assert expected == found
    # Nothing is made up: every value stands in the header, but for its backslashes.
    plain = changed.replace("\\", "")
    assert all(value.replace("\\", "") in plain for one in found for value in one.parameters.values())


@searched
@given(st.lists(headers(), max_size=4))
def test_several_headers_are_one_after_the_other(several: list[str]) -> None:
    """What several headers hold is what each of them holds (RFC 9110, section 5.3)."""
    alone = [challenge for header in several for challenge in parse_challenges([header])]
    assert alone == parse_challenges(several)


_PIECES = st.lists(
    st.sampled_from(["Bearer ", 'a="', '"', "\\", '\\"', ",", "=", " ", "\t", "a", 'a="b"', "Basic x==", "\x80", "a="]),
    min_size=1,
    max_size=5,
)


@searched
@given(st.lists(_PIECES, min_size=1, max_size=2))
def test_time_is_linear(repeated: list[list[str]]) -> None:
    """Headers of the longest kind, made of any repetition, are read in a fraction of a second of CPU time."""
    header = "".join("".join(pieces) * (32_000 // len("".join(pieces))) for pieces in repeated)
    began = time.thread_time()
    parse_challenges(['Bearer realm="', header, 'Bearer a="' + header])
    assert time.thread_time() - began < 1
