"""Where repositories go."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.errors import InvalidReference, SpecError
from syncer.oci.reference import check_repository
from syncer.spec.grammar import REPOSITORY
from syncer.spec.routing import RepositoryPattern, RepositoryTemplate, image

GLOBS = st.text(alphabet="ab/-*?", min_size=1, max_size=7)
TEMPLATES = st.lists(st.sampled_from(["{path}", "{name}", "{parent}", "a", "-", "/"]), min_size=1, max_size=5).map(
    "".join
)
REPOSITORIES = st.from_regex(r"[ab]+(-[ab]+)?(/[ab]+(-[ab])?){0,2}", fullmatch=True)


@pytest.mark.parametrize(
    ("template", "repository", "expected"),
    [
        ("mirror/alpine", "library/alpine", "mirror/alpine"),
        ("mirror/{path}", "library/alpine", "mirror/library/alpine"),
        ("mirror/{name}", "org/team/api", "mirror/api"),
        ("{parent}/mirror-{name}", "org/team/api", "org/team/mirror-api"),
        ("{path}", "a", "a"),
        ("x/{name}/{name}", "a/b", "x/b/b"),
    ],
)
def test_render(template: str, repository: str, expected: str) -> None:
    """Each placeholder stands for its part of the source repository."""
    parsed = RepositoryTemplate.parse(template)
    assert parsed.render(repository) == expected
    assert str(parsed) == template


def test_render_needs_a_parent() -> None:
    """A repository of one part has no parent, and the error says so."""
    with pytest.raises(InvalidReference, match="needs the parent of 'alpine', which has one part only"):
        RepositoryTemplate.parse("x{parent}/y").render("alpine")


def test_render_checks_the_result() -> None:
    """A target that is too long is an error of its own."""
    with pytest.raises(InvalidReference, match="invalid repository name"):
        RepositoryTemplate.parse("{path}/{path}").render("a" * 200)


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("mirror/{nmae}", "unknown placeholder {nmae}"),
        ("mirror/{zzz}", "unknown placeholder {zzz}"),
        ("mirror/{path", "stray '{'"),
        ("mirror/path}", "stray '}'"),
        ("mirror/*", "globs belong into 'from'"),
        ("Mirror/{path}", "'M', which no repository has"),
        ("mirror//x", "invalid repository name"),
    ],
)
def test_what_is_no_template(text: str, fragment: str) -> None:
    """What cannot make a repository name is refused, with what is wrong in it."""
    with pytest.raises((SpecError, InvalidReference)) as caught:
        RepositoryTemplate.parse(text)
    assert fragment in caught.value.message
    assert caught.value.hint


def test_patterns() -> None:
    """A pattern is a name or a glob; the catalog need be asked for globs only."""
    literal = RepositoryPattern.parse("library/alpine")
    assert (literal.literal, str(literal)) == ("library/alpine", "library/alpine")
    glob = RepositoryPattern.parse("team/a*")
    assert (glob.literal, glob.prefix) == (None, "team/a")
    assert glob.matches("team/api")
    assert not glob.matches("team/web")


@pytest.mark.parametrize("text", ["a//*", "-*/x", "*/", "_*/a"])
def test_patterns_without_a_match(text: str) -> None:
    """A glob that no repository name can match is a mistake."""
    with pytest.raises(SpecError, match="no repository can match"):
        RepositoryPattern.parse(text)


def test_a_wrong_name_is_no_pattern() -> None:
    """A name without signs of a glob follows the grammar of names."""
    with pytest.raises(InvalidReference):
        RepositoryPattern.parse("Library/Alpine")


def texts(glob: str, template: str) -> tuple[list[str], bool]:
    """Return which of some names are in the image, and whether it is exact."""
    made = image(RepositoryPattern.parse(glob), RepositoryTemplate.parse(template))
    candidates = ["a", "b", "x/a", "x/b", "x/a/b", "m/a", "m/x/a", "x-a", "a-x", "x/m-a", "b/a"]
    return [name for name in candidates if any(g.matches(name) for g in made.globs)], made.exact


@pytest.mark.parametrize(
    ("glob", "template", "expected", "exact"),
    [
        ("x/*", "m/{name}", ["m/a"], True),
        ("x/**", "m/{name}", ["m/a"], True),
        ("x/**", "m/{path}", ["m/x/a"], True),
        ("x/a", "m/{path}", ["m/x/a"], True),
        ("*", "{name}-x", ["a-x"], True),
        ("x/*", "{parent}/m-{name}", ["x/m-a"], True),
        ("x/*", "{parent}/{name}", ["x/a", "x/b", "x/m-a"], True),
        ("x/*", "{name}/{path}", ["x/a/b"], False),
    ],
)
def test_images(glob: str, template: str, expected: list[str], *, exact: bool) -> None:
    """What a template can make of a glob is known as globs again."""
    found, is_exact = texts(glob, template)
    assert is_exact is exact
    if exact:
        assert found == expected


@given(glob=GLOBS, template=TEMPLATES, repository=REPOSITORIES)
def test_images_hold_every_target(glob: str, template: str, repository: str) -> None:
    """Whatever a template makes of a repository that the glob matches is in the image."""
    try:
        pattern, parsed = RepositoryPattern.parse(glob), RepositoryTemplate.parse(template)
        made = image(pattern, parsed)
    except (SpecError, InvalidReference):
        return
    if not pattern.matches(repository):
        return
    try:
        target = parsed.render(repository)
    except InvalidReference:
        return
    assert any(found.matches(target) for found in made.globs)


@given(glob=GLOBS, prefix=st.sampled_from(["", "m/", "m-"]), suffix=st.sampled_from(["", "/m", "-m"]))
def test_exact_images_hold_nothing_else(glob: str, prefix: str, suffix: str) -> None:
    """An example out of an exact image is the target of some repository that the glob matches."""
    try:
        pattern = RepositoryPattern.parse(glob)
    except (SpecError, InvalidReference):
        return
    made = image(pattern, RepositoryTemplate.parse(f"{prefix}{{path}}{suffix}"))
    assert made.exact
    for found in made.globs:
        if REPOSITORY.accepts(found.sample):
            source = found.sample.removeprefix(prefix).removesuffix(suffix)
            assert check_repository(source)
            assert pattern.matches(source)
