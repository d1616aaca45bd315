"""``${NAME}`` in a spec."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.errors import SpecError
from syncer.spec.interpolation import interpolate

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("${SET}", "value"),
        ("a${SET}b${SET}c", "avaluebvaluec"),
        ("${UNSET:-fallback}", "fallback"),
        ("${UNSET:-}", ""),
        ("${EMPTY}", ""),
        ("${EMPTY:-fallback}", "fallback"),
        ("${SET:-fallback}", "value"),
        ("${UNSET:-a:-b}", "a:-b"),
        ("$$", "$"),
        ("$${SET}", "${SET}"),
        ("$$$$", "$$"),
        ("$SET", "$SET"),
        ("re:^v[0-9]+$", "re:^v[0-9]+$"),
        ("a$", "a$"),
        ("${NESTED}", "${SET}"),
    ],
)
def test_interpolation(text: str, expected: str) -> None:
    """Each form gives what the reference says."""
    environ = {"SET": "value", "EMPTY": "", "NESTED": "${SET}"}
    assert interpolate(text, environ).text == expected


@pytest.mark.parametrize(
    ("text", "column", "fragment"),
    [
        ("ab${UNSET}", 3, "the variable UNSET is not set"),
        ("${", 1, "expected ${NAME}"),
        ("x${A", 2, "expected ${NAME}"),
        ("${}", 1, "expected ${NAME}"),
        ("${1A}", 1, "expected ${NAME}"),
        ("${A-b}", 1, "expected ${NAME}"),
        ("${A:?no}", 1, "expected ${NAME}"),
        ("${A:-${B}}", 1, "expected ${NAME}"),
    ],
)
def test_what_cannot_be_replaced(text: str, column: int, fragment: str) -> None:
    """An unset variable and wrong syntax are errors that say where in the text they are."""
    with pytest.raises(SpecError) as caught:
        interpolate(text, {})
    assert fragment in caught.value.detail
    assert caught.value.column == column
    assert caught.value.hint


def test_variables_are_told() -> None:
    """Only what came out of the environment counts as such, each once."""
    result = interpolate("${A}${A}${B:-x}${C:-y}", {"A": "1", "C": "2"})
    assert result.variables == ("A", "C")


@given(st.text())
def test_doubled_dollars_keep_any_text(text: str) -> None:
    """Doubling each dollar sign makes every text stand for itself."""
    assert interpolate(text.replace("$", "$$"), {}).text == text


@given(name=NAMES, value=st.text(), before=st.text(), after=st.text())
def test_a_value_is_put_in_as_it_is(name: str, value: str, before: str, after: str) -> None:
    """Whatever a variable holds goes in unread, between what was written around it."""
    text = before.replace("$", "$$") + f"${{{name}}}" + after.replace("$", "$$")
    assert interpolate(text, {name: value}).text == before + value + after
