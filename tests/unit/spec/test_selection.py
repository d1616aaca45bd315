"""Which tags an entry wants."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.errors import SpecError
from syncer.spec.selection import TagPattern, TagSelection, common_tag

COMPANION = "sha256-" + "a" * 64
PATTERNS = st.lists(st.sampled_from(["a", "b", "ab", "*", "a*", "*b", "?", "re:a+", "re:[ab]*b"]), max_size=3)
TAGS = st.lists(st.text(alphabet="ab", min_size=1, max_size=4), max_size=8)


def test_everything_by_default() -> None:
    """Without patterns every tag is wanted, in the order they come, each once."""
    assert TagSelection().select(["b", "a", "b", "1.0"]) == ["b", "a", "1.0"]


def test_include_and_exclude() -> None:
    """What is excluded is not wanted, whatever includes it."""
    selection = TagSelection.parse(include=["3.*", "latest"], exclude=["*-rc*", "re:.*-beta[0-9]"])
    tags = ["3.19", "3.20-rc1", "latest", "2.0", "3.1-beta1", "3.1-beta"]
    assert selection.select(tags) == ["3.19", "latest", "3.1-beta"]


def test_expressions_match_the_whole_tag() -> None:
    """A regular expression is anchored on both sides."""
    selection = TagSelection.parse(include=["re:v[0-9]|w"])
    assert selection.select(["v1", "v12", "xv1", "w", "wx"]) == ["v1", "w"]


def test_companions_travel_with_their_manifest() -> None:
    """Signatures under a tag are wanted on their own only when named in full."""
    tags = ["1.0", COMPANION, f"{COMPANION}.sig", f"{COMPANION}.att"]
    assert TagSelection().select(tags) == ["1.0"]
    assert TagSelection.parse(include=["sha256-*", "re:sha.*"]).select(tags) == []
    assert TagSelection.parse(include=[f"{COMPANION}.sig"]).select(tags) == [f"{COMPANION}.sig"]


def test_what_is_no_tag_is_never_wanted() -> None:
    """A registry that lists nonsense cannot smuggle it in, nor a text of any length into an expression."""
    assert TagSelection().select(["", "-a", "a/b", "a" * 129, "../x", "ok"]) == ["ok"]


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        ([], [], None),
        (["a", "b"], [], ("a", "b")),
        (["a", "b", "a"], [], ("a", "b")),
        (["a", "b"], ["b"], ("a",)),
        (["a", "[b]"], [], ("a", "b")),
        (["a", "b*"], [], None),
        (["re:a"], [], None),
        (["a"], ["*"], ()),
    ],
)
def test_literal_tags(include: list[str], exclude: list[str], expected: tuple[str, ...] | None) -> None:
    """When every include is a name, the tags are known without a list."""
    assert TagSelection.parse(include=include, exclude=exclude).literal_tags() == expected


def test_immutable() -> None:
    """Immutable tags are told by patterns of their own."""
    selection = TagSelection.parse(immutable=["3.*.*", "re:v[0-9]+"])
    assert [selection.is_immutable(tag) for tag in ("3.1.2", "3.1", "v12", "latest")] == [True, False, True, False]


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("-x", "no tag can match"),
        (".*", "no tag can match"),
        ("[.-]", "no tag can match"),
        ("a" * 129, "no tag can match"),
        ("re:", "1 to 512 characters"),
        ("re:(", "not a regular expression"),
        ("re:a{99999999999}", "not a regular expression"),
        ("re:" + "(" * 300 + ")" * 300, "1 to 512 characters"),
    ],
)
def test_patterns_that_cannot_match(text: str, fragment: str) -> None:
    """A pattern that matches no tag is a mistake, and is told as one."""
    with pytest.raises(SpecError) as caught:
        TagPattern.parse(text)
    assert fragment in caught.value.detail


def test_python_does_not_warn() -> None:
    """A set that Python may read otherwise one day is no reason for noise."""
    assert TagPattern.parse("re:[[a]").matches("a")


@given(include=PATTERNS, exclude=PATTERNS, tags=TAGS)
def test_select_is_include_without_exclude(include: list[str], exclude: list[str], tags: list[str]) -> None:
    """Selecting equals asking each pattern about each tag, in order, once."""
    selection = TagSelection.parse(include=include, exclude=exclude)
    wanted = [
        tag
        for tag in dict.fromkeys(tags)
        if (not include or any(TagPattern.parse(text).matches(tag) for text in include))
        and not any(TagPattern.parse(text).matches(tag) for text in exclude)
    ]
    assert selection.select(tags) == wanted
    if (literal := selection.literal_tags()) is not None:
        assert set(wanted) <= set(literal)


@pytest.mark.parametrize(
    ("one", "two", "expected"),
    [
        ({}, {}, "latest"),
        ({"include": ["3.*"]}, {}, "3.1"),
        ({"include": ["3.*"]}, {"include": ["*.4"]}, "3.4"),
        ({"include": ["3.*"]}, {"include": ["4.*"]}, None),
        ({"include": ["a"]}, {"include": ["b"]}, None),
        ({"include": ["a", "c"]}, {"include": ["b", "c"]}, "c"),
        ({"include": ["v*"]}, {"exclude": ["v*"]}, None),
        ({"include": ["v*"]}, {"exclude": ["v?*"]}, "v"),
        ({"include": ["v*"], "exclude": ["v", "v1*"]}, {"include": ["v*"], "exclude": ["v0*"]}, "vv"),
        ({"include": ["re:v[0-9]+"]}, {"include": ["v1"]}, "v1"),
        ({"include": ["re:w[0-9]+"]}, {"include": ["v1"]}, None),
        ({"include": ["re:[0-9.]+"]}, {}, "1.0"),
        ({"include": ["*"], "exclude": ["re:.*"]}, {}, None),
    ],
)
def test_common_tags(one: dict[str, list[str]], two: dict[str, list[str]], expected: str | None) -> None:
    """A tag that two selections share is found, excludes and all, or shown not to be there."""
    assert common_tag(TagSelection.parse(**one), TagSelection.parse(**two)) == expected


@given(
    include=PATTERNS,
    exclude=PATTERNS,
    others=PATTERNS,
    avoided=PATTERNS,
    tag=st.text(alphabet="ab", min_size=1, max_size=3),
)
def test_no_common_tag_is_missed(
    include: list[str], exclude: list[str], others: list[str], avoided: list[str], tag: str
) -> None:
    """Globs and literals are decided: what is not found in common is selected by one side at most."""
    first = TagSelection.parse(include=include, exclude=exclude)
    second = TagSelection.parse(include=others, exclude=avoided)
    found = common_tag(first, second)
    if found is not None:
        assert first.selects(found)
        assert second.selects(found)
    elif not any(text.startswith("re:") for text in (*include, *exclude, *others, *avoided)):
        assert not (first.selects(tag) and second.selects(tag))
