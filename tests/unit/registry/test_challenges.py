"""The WWW-Authenticate parser."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.errors import Denied, NotFound, Unauthorized
from syncer.registry.auth.challenge import Challenge, asks_for_token, described, parse_challenges


def test_bearer() -> None:
    """The usual challenge of a registry gives its three parameters."""
    found = parse_challenges(['Bearer realm="https://auth.io/token",service="reg.io",scope="repository:a/b:pull,push"'])
    parameters = {"realm": "https://auth.io/token", "service": "reg.io", "scope": "repository:a/b:pull,push"}
    assert [Challenge(scheme="bearer", parameters=parameters)] == found


def test_commas_equals_and_quotes_in_values() -> None:
    """Quoted values may hold everything that separates elsewhere."""
    (found,) = parse_challenges([r'Bearer realm="https://a/?x=1,y=2", error="say \"no\", please"'])
    assert found.parameters == {"realm": "https://a/?x=1,y=2", "error": 'say "no", please'}


def test_several_challenges_in_one_header() -> None:
    """A word without an equals sign after a comma starts the next challenge."""
    found = parse_challenges(['Basic realm="x", Negotiate, Bearer realm="y",service=z'])
    assert [(challenge.scheme, challenge.parameters) for challenge in found] == [
        ("basic", {"realm": "x"}),
        ("negotiate", {}),
        ("bearer", {"realm": "y", "service": "z"}),
    ]


def test_several_headers() -> None:
    """Challenges of several headers are taken together, in order."""
    assert [found.scheme for found in parse_challenges(["Basic realm=a", "Bearer realm=b"])] == ["basic", "bearer"]


def test_names_and_schemes_ignore_case() -> None:
    """Schemes and parameter names compare without case (RFC 9110)."""
    assert [Challenge(scheme="bearer", parameters={"realm": "A"})] == parse_challenges(['BEARER Realm = "A"'])


def test_first_of_a_repeated_parameter_wins() -> None:
    """A parameter given twice cannot replace itself."""
    assert parse_challenges(['Bearer realm="https://good",realm="https://evil"'])[0].parameters == {
        "realm": "https://good"
    }


def test_token68() -> None:
    """A token68 after the scheme is kept as one."""
    assert [Challenge(scheme="negotiate", token68="YII=")] == parse_challenges(["Negotiate YII="])


@pytest.mark.parametrize("header", ["", ",", "=", '"', 'realm="x"', "Bearer realm=", 'Bearer realm="open', "\\"])
def test_broken_headers_do_no_harm(header: str) -> None:
    """What breaks the grammar is skipped."""
    assert all("x" not in found.parameters.values() for found in parse_challenges([header]))


def test_values_outside_ascii_are_left_out() -> None:
    """A byte that is no ASCII makes a parameter void, wherever it stands, and leaves the others as they are."""
    header = 'Bearer realm="https://auth.io/t",service="\udcff",scope="repository:\xe4:pull",error=\udc80,x=y'
    assert parse_challenges([header])[0].parameters == {"realm": "https://auth.io/t", "x": "y"}


def test_quotes_without_end_cost_no_time() -> None:
    """A header of the longest kind, full of quotes that do not close, is read once and not once for each."""
    began = time.thread_time()
    for opening in ('Bearer "', 'Bearer a="'):
        parse_challenges([opening + '\\"' * 32_000])
    assert time.thread_time() - began < 1


@given(st.lists(st.text(max_size=200), max_size=4))
def test_any_text_is_survived(headers: list[str]) -> None:
    """No header raises, and none gives a name that is not a token."""
    for found in parse_challenges(headers):
        assert found.scheme
        assert all(name and " " not in name for name in found.parameters)


_TOKENS = st.text(st.sampled_from("abcXYZ019-_.!~"), min_size=1, max_size=10)
_VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)


@given(
    st.lists(st.tuples(_TOKENS, st.dictionaries(_TOKENS.map(str.lower), _VALUES, min_size=1, max_size=4)), max_size=4)
)
def test_what_is_written_is_read(challenges: list[tuple[str, dict[str, str]]]) -> None:
    """Challenges written by the grammar are read back as they were."""

    def quoted(value: str) -> str:
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'

    header = ", ".join(
        f"{scheme} " + ", ".join(f"{name}={quoted(value)}" for name, value in parameters.items())
        for scheme, parameters in challenges
    )
    expected = [(scheme.lower(), parameters) for scheme, parameters in challenges]
    assert expected == [(found.scheme, found.parameters) for found in parse_challenges([header])]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ('Bearer realm="r"', ""),
        ('Bearer realm="r",error="insufficient_scope"', "insufficient_scope"),
        ('Bearer error="invalid_token",error_description="it  has\tended"', "invalid_token: it has ended"),
        ('Basic realm="r", Bearer error_description="no"', "no"),
        (f'Bearer error="x",error_description="{"canary" * 9} is wrong"', "x: … is wrong"),
    ],
)
def test_reasons_for_people(header: str, expected: str) -> None:
    """The reason of a challenge is told in a line, without long words that may be secrets."""
    assert expected == described(parse_challenges([header]))


@pytest.mark.parametrize(
    ("error", "header", "expected"),
    [
        (Unauthorized("", status=401), "", True),
        (Denied("", status=403), "", False),
        (Denied("", status=403), 'Basic realm="r"', False),
        (Denied("", status=403), 'Bearer realm="r"', False),
        (Denied("", status=403), 'Bearer realm="r",scope="repository:a:push"', True),
        (Denied("", status=403), 'Bearer realm="r",error="insufficient_scope"', True),
        (NotFound(), 'Bearer realm="r",error="insufficient_scope"', False),
    ],
)
def test_what_another_token_may_cure(error: Exception, header: str, *, expected: bool) -> None:
    """Any 401, and a 403 whose challenge names what is missing."""
    assert asks_for_token(error, parse_challenges([header])) is expected
