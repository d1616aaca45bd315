"""Globs over tags and repository names."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.errors import SpecError
from syncer.oci.reference import check_repository, is_tag
from syncer.spec.globs import Glob, parse_glob
from syncer.spec.grammar import REPOSITORY, TAG
from syncer.spec.intersection import common_name

REPOSITORY_GLOBS = st.text(alphabet="ab/-*?", min_size=1, max_size=9)
TAG_GLOBS = st.lists(st.sampled_from(["a", "b", ".", "*", "?", "[ab]", "[!a]"]), min_size=1, max_size=6).map("".join)
REPOSITORIES = st.text(alphabet="ab/-", max_size=9)
TAGS = st.text(alphabet="ab.1", max_size=8)


def naive(glob: Glob, text: str) -> bool:
    """Match by trying everything: slow, and plainly right."""

    def match(position: int, index: int) -> bool:
        if position == len(glob.tokens):
            return index == len(text)
        token = glob.tokens[position]
        fits = index < len(text) and text[index] in token.characters
        if token.repeats:
            return match(position + 1, index) or (fits and match(position, index + 1))
        return fits and match(position + 1, index + 1)

    return match(0, 0)


@pytest.mark.parametrize(
    ("glob", "name", "expected"),
    [
        ("library/*", "library/alpine", True),
        ("library/*", "library/a/b", False),
        ("library/*", "libraryx/a", False),
        ("org/**", "org/a/b/c", True),
        ("org/**", "org", False),
        ("**", "a/b", True),
        ("*", "a/b", False),
        ("*/web", "team/web", True),
        ("**/web", "a/b/web", True),
        ("**/web", "web", False),
        ("team/?pi", "team/api", True),
        ("team?api", "team/api", False),
        ("v[0-9]", "v7", True),
        ("v[!0-9]", "v7", False),
        ("v[^0-9]", "va", True),
        ("team[/]api", "team/api", False),
    ],
)
def test_repository_globs(glob: str, name: str, *, expected: bool) -> None:
    """Each sign of a glob means within a repository name what the reference says."""
    if glob == "team[/]api":
        with pytest.raises(SpecError, match="no repository can meet"):
            parse_glob(glob, REPOSITORY)
        return
    assert parse_glob(glob, REPOSITORY).matches(name) is expected


@pytest.mark.parametrize(
    ("glob", "tag", "expected"),
    [
        ("3.*", "3.19.1", True),
        ("3.*", "30", False),
        ("*-rc*", "1.0-rc1", True),
        ("**", "latest", True),
        ("v?", "v1", True),
        ("v?", "v10", False),
        ("[a-c-]*", "-x", True),
    ],
)
def test_tag_globs(glob: str, tag: str, *, expected: bool) -> None:
    """A tag has no parts, so a star stands for anything."""
    assert parse_glob(glob, TAG).matches(tag) is expected


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("", "is empty"),
        ("a" * 513, "longer than 512"),
        ("a[b", "without ']'"),
        ("a[]", "without ']'"),
        ("[z-a]", "empty range z-a"),
        ("{a,b}", "'{'"),
        ("!a", "'!'"),
        ("a b", "' '"),
        ("[+]", r"\[\+\]"),
    ],
)
def test_what_is_no_glob(text: str, fragment: str) -> None:
    """A pattern that could never match is refused, with what is wrong in it."""
    with pytest.raises(SpecError, match=fragment):
        parse_glob(text, TAG)


def test_literal_and_prefix() -> None:
    """A glob knows what every match begins with, and whether there is only one."""
    assert parse_glob("team/api", REPOSITORY).literal == "team/api"
    assert parse_glob("team/[a]pi", REPOSITORY).literal == "team/api"
    assert parse_glob("team/a*", REPOSITORY).literal is None
    assert parse_glob("team/a*b", REPOSITORY).prefix == "team/a"
    assert parse_glob("*", REPOSITORY).prefix == ""


def test_sample_looks_like_a_tag() -> None:
    """The sample of a glob is a match that people can read."""
    assert parse_glob("3.*", TAG).sample == "3.1"
    assert parse_glob("v[3-5]", TAG).sample == "v3"


@given(glob=REPOSITORY_GLOBS, name=REPOSITORIES)
def test_repository_regex_is_the_glob(glob: str, name: str) -> None:
    """The regular expression with its atomic groups matches just what trying everything does."""
    parsed = parse_glob(glob, REPOSITORY)
    assert parsed.matches(name) is naive(parsed, name)


@given(glob=TAG_GLOBS, tag=TAGS)
def test_tag_regex_is_the_glob(glob: str, tag: str) -> None:
    """The same for tags."""
    parsed = parse_glob(glob, TAG)
    assert parsed.matches(tag) is naive(parsed, tag)


@pytest.mark.parametrize("glob", ["*a" * 20 + "*b", "**a*a" * 15 + "b", "*a" * 100])
def test_no_glob_takes_long(glob: str) -> None:
    """Many stars, which would take ages by plain backtracking, are matched in no time."""
    before = time.process_time()
    assert not parse_glob(glob, REPOSITORY).matches("a" * 250 + "c")
    assert time.process_time() - before < 1


@given(st.text(alphabet="aZ0._-/", max_size=8))
def test_grammars_agree_with_references(text: str) -> None:
    """The automata accept what syncer.oci.reference accepts, and nothing else."""
    assert TAG.accepts(text) is is_tag(text)
    try:
        valid = bool(check_repository(text))
    except Exception:  # noqa: BLE001 - any refusal is a refusal
        valid = False
    assert REPOSITORY.accepts(text) is valid


@given(one=TAG_GLOBS, two=TAG_GLOBS, avoided=st.lists(TAG_GLOBS, max_size=2), tag=TAGS)
def test_common_tag_is_exact(one: str, two: str, avoided: list[str], tag: str) -> None:
    """An example matches both globs and none to avoid; without an example no tag at all does."""
    first, second, *others = (parse_glob(text, TAG) for text in (one, two, *avoided))
    found = common_name(first, second, without=others)
    if found is None:
        assert not (
            is_tag(tag) and first.matches(tag) and second.matches(tag) and not any(o.matches(tag) for o in others)
        )
    else:
        assert is_tag(found)
        assert first.matches(found)
        assert second.matches(found)
        assert not any(other.matches(found) for other in others)


@given(one=REPOSITORY_GLOBS, two=REPOSITORY_GLOBS, name=REPOSITORIES)
def test_common_repository_is_exact(one: str, two: str, name: str) -> None:
    """The same for repositories, whose grammar is stricter."""
    first, second = parse_glob(one, REPOSITORY), parse_glob(two, REPOSITORY)
    found = common_name(first, second)
    if found is None:
        assert not (REPOSITORY.accepts(name) and first.matches(name) and second.matches(name))
    else:
        assert check_repository(found)
        assert first.matches(found)
        assert second.matches(found)


def test_common_name_is_bounded() -> None:
    """Patterns that are made to blow the walk up end undecided rather than never."""
    first = parse_glob("*" + "[ab]" * 2, TAG)
    avoided = [parse_glob("*a" + "?" * length, TAG) for length in range(3, 22)]
    before = time.process_time()
    common_name(first, first, without=avoided)
    assert time.process_time() - before < 20


def test_names_are_no_longer_than_allowed() -> None:
    """A tag of more than 128 characters is no example."""
    glob = parse_glob("?" * 129, TAG)
    assert common_name(glob, glob) is None
    assert re.fullmatch(r"\w{128}", common_name(parse_glob("?" * 128, TAG), parse_glob("*", TAG)) or "")
