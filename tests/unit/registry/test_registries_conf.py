"""registries.conf: what is in a file, which rule is about a name, and where that is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncer.errors import SpecError
from syncer.registry.conf_places import ConfPlaces, conf_places, is_without_rules
from syncer.registry.registries_conf import (
    Mirror,
    PullFrom,
    RegistriesConf,
    Route,
    Rule,
    parse_registries_conf,
)

FULL = b"""
unqualified-search-registries = ["docker.io"]
short-name-mode = "enforcing"

[[registry]]
prefix = "docker.io"
location = "registry-1.docker.io"
insecure = false
blocked = false

[[registry.mirror]]
location = "mirror.example.com:5000/hub/"
insecure = true

[[registry.mirror]]
location = "digests.example.com"
pull-from-mirror = "digest-only"

[[registry.mirror]]
location = "tags.example.com"
pull-from-mirror = "tag-only"

[[registry]]
prefix = "*.corp.example"
blocked = true

[[registry]]
location = "quay.io/org"
mirror-by-digest-only = true

[[registry.mirror]]
location = "cache.example.com/quay/org"
"""


def conf(text: bytes | str) -> RegistriesConf:
    """Return the rules of one file."""
    raw = text if isinstance(text, bytes) else text.encode()
    return RegistriesConf.merged([parse_registries_conf(raw, "r.conf")])


def tables(*prefixes: str) -> RegistriesConf:
    """Return rules that send each prefix to a place of its own."""
    text = "\n".join(f'[[registry]]\nprefix = "{p}"\nlocation = "place{n}.example"' for n, p in enumerate(prefixes))
    return conf(text)


def followed(rules: RegistriesConf, registry: str, repository: str) -> Route:
    """Return the route that there must be."""
    route = rules.route(registry, repository)
    assert route is not None
    return route


def test_a_whole_file_is_read() -> None:
    """Every key of [[registry]] and [[registry.mirror]] arrives, in the order of the file."""
    hub, corp, quay = conf(FULL).rules
    assert hub == Rule(
        prefix="docker.io",
        location="docker.io",
        file="r.conf",
        mirrors=(
            Mirror(location="mirror.example.com:5000/hub", insecure=True),
            Mirror(location="digests.example.com", pull=PullFrom.DIGEST_ONLY),
            Mirror(location="tags.example.com", pull=PullFrom.TAG_ONLY),
        ),
    )
    assert corp == Rule(prefix="*.corp.example", location="", file="r.conf", blocked=True)
    assert quay.prefix == quay.location == "quay.io/org"
    assert quay.mirrors == (Mirror(location="cache.example.com/quay/org", pull=PullFrom.DIGEST_ONLY),)


@pytest.mark.parametrize(
    "text", [b"", b"# nothing\n", b'unqualified-search-registries = ["docker.io"]\n', b"[aliases]"]
)
def test_a_file_without_registries_has_no_rules(text: bytes) -> None:
    """What is about short names is not used, and no rules are none."""
    assert conf(text).rules == ()
    assert conf(text).route("docker.io", "library/alpine") is None


@pytest.mark.parametrize(
    ("registry", "repository", "place"),
    [
        ("example.com", "a", "place0.example/a"),
        ("example.com", "nsx/a", "place0.example/nsx/a"),
        ("example.com", "ns/a", "place1.example/a"),
        ("example.com", "ns/deep/a", "place2.example/a"),
        ("example.com", "ns/deepest", "place1.example/deepest"),
        ("a.example.com", "a", "place3.example/a"),
        ("a.b.example.com", "a", "place3.example/a"),
        ("x.b.example.com", "a/b", "place3.example/a/b"),
        ("one.example.com", "a", "place4.example/a"),
        ("example.com:5000", "a", "place5.example/a"),
        ("127.0.0.1:5000", "a/b/c", "place6.example/a/b/c"),
    ],
)
def test_the_longest_prefix_holds(registry: str, repository: str, place: str) -> None:
    """A prefix ends where a part of the name does, ports count, and a host beats a wildcard."""
    prefixes = (
        *("example.com", "example.com/ns", "example.com/ns/deep", "*.example.com"),
        *("one.example.com", "example.com:5000", "127.0.0.1:5000"),
    )
    assert str(followed(tables(*prefixes), registry, repository).primary) == place


@pytest.mark.parametrize(
    ("registry", "repository"),
    [("xample.com", "a"), ("example.com.evil", "a"), ("example.com:443", "a"), ("notexample.com", "a"), ("other", "a")],
)
def test_other_names_have_no_rule(registry: str, repository: str) -> None:
    """A name is the prefix's only when the whole host fits."""
    assert tables("example.com", "*.example.com").route(registry, repository) is None


def test_a_wildcard_needs_a_subdomain() -> None:
    """``*.example.com`` is about names below example.com, and not about itself."""
    rules = tables("*.example.com")
    assert rules.route("example.com", "a") is None
    assert rules.route(".example.com", "a") is None
    assert rules.route("a.example.com", "a") is not None


def test_a_wildcard_without_location_keeps_names() -> None:
    """Mirrors replace the host, and the primary stays where the name says."""
    rules = conf('[[registry]]\nprefix="*.example.com"\n[[registry.mirror]]\nlocation="cache.example/all"\n')
    route = followed(rules, "eu.example.com", "team/app")
    assert [str(stop) for stop in (*route.mirrors, route.primary)] == [
        "cache.example/all/team/app",
        "eu.example.com/team/app",
    ]


def test_a_location_takes_the_place_of_the_prefix() -> None:
    """What follows the prefix in a name follows the location as well."""
    rules = conf('[[registry]]\nprefix = "quay.io/org"\nlocation = "other.example/copies/quay"\n')
    assert str(followed(rules, "quay.io", "org/app/web").primary) == "other.example/copies/quay/app/web"


def test_a_whole_repository_may_be_a_prefix() -> None:
    """A prefix that is the whole name gives way to the whole location."""
    rules = conf('[[registry]]\nprefix = "quay.io/org/app"\nlocation = "other.example/app"\n')
    assert str(followed(rules, "quay.io", "org/app").primary) == "other.example/app"


def test_a_location_that_leaves_no_name_is_told() -> None:
    """A rule by which nothing is left of the name fails when it is used, with file and both of its keys."""
    rules = conf('[[registry]]\nprefix = "quay.io/org/app"\nlocation = "other.example"\n')
    with pytest.raises(SpecError, match=r"r\.conf: the location 'other\.example' .* 'quay\.io/org/app'") as caught:
        rules.route("quay.io", "org/app")
    assert caught.value.hint


def test_names_of_the_hub_are_one() -> None:
    """A rule for index.docker.io is one for docker.io, in upper case as well."""
    assert tables("index.docker.io").rule("docker.io", "library/alpine") is not None
    assert tables("QUAY.io").rule("quay.io", "a") is not None


def test_the_last_rule_for_a_prefix_holds() -> None:
    """Files that are read later replace rules, and add to them."""
    first = parse_registries_conf(b'[[registry]]\nlocation="a.example"\n[[registry]]\nlocation="b.example"', "1")
    later = parse_registries_conf(b'[[registry]]\nlocation="a.example"\nblocked=true', "2")
    merged = RegistriesConf.merged([first, later])
    assert {rule.prefix: rule.file for rule in merged.rules} == {"a.example": "2", "b.example": "1"}


@pytest.mark.parametrize(
    ("pull", "tag", "digest"),
    [(PullFrom.ALL, True, True), (PullFrom.DIGEST_ONLY, False, True), (PullFrom.TAG_ONLY, True, False)],
)
def test_what_a_mirror_is_asked_for(pull: PullFrom, tag: bool, digest: bool) -> None:  # noqa: FBT001 - a table
    """pull-from-mirror tells tags from digests."""
    assert (pull.allows("latest"), pull.allows(f"sha256:{'0' * 64}")) == (tag, digest)


WRONG = [
    (b"[[registry", "r.conf: not valid TOML"),
    (b"a = 1\nb = = 2", "r.conf:2:5: not valid TOML"),
    (b"a = \xff", "r.conf: not valid TOML"),
    (b"[registries.search]\nregistries = []", "r.conf: registries: this is version 1 of the format"),
    (b"[registries.insecure]\nregistries = []\n[[registry]]\nlocation='a.b'", "version 1"),
    (b"registry = 1", "r.conf: registry: expected [[registry]] tables"),
    (b"registry = [1]", "r.conf: registry: expected [[registry]] tables"),
    (b"[registry]\nlocation = 'a.b'", "r.conf: registry: expected [[registry]] tables"),
    (b"[[registry]]\ninsecure = true", "r.conf: registry[0]: expected 'prefix' or 'location'"),
    (b"[[registry]]\nprefix = 'a.b'", "r.conf: registry[0].location: expected a 'location'"),
    (b"[[registry]]\nlocation = 1", "r.conf: registry[0].location: expected text"),
    (b"[[registry]]\nlocation = 'https://a.b'", "r.conf: registry[0].location: expected host[:port]/…, not the URL"),
    (b"[[registry]]\nlocation = 'a.b'\nblocked = 'yes'", "r.conf: registry[0].blocked: expected true or false"),
    (b"[[registry]]\nlocation = 'a.b/UPPER'", "r.conf: registry[0].location: invalid repository name 'UPPER'"),
    (b"[[registry]]\nlocation = 'a b'", "r.conf: registry[0].location: invalid registry 'a b'"),
    (b"[[registry]]\nlocation = 'a.b'\nprefix = '*.'", "r.conf: registry[0].prefix: expected *.domain"),
    (b"[[registry]]\nlocation = 'a.b'\nprefix = '*.a.b/c'", "r.conf: registry[0].prefix: expected *.domain"),
    (b"[[registry]]\nlocation = 'a.b'\nprefix = 'a.b/c:tag'", "r.conf: registry[0].prefix: prefixes that name a tag"),
    (b"[[registry]]\nlocation = 'a.b'\nmirror = 'x'", "r.conf: registry[0].mirror: expected [[registry.mirror]]"),
    (b"[[registry]]\nlocation = 'a.b'\npull-from-mirror = 'all'", "r.conf: registry[0].pull-from-mirror: this belongs"),
    (b"[[registry]]\nlocation = 'a.b'\n[[registry.mirror]]", "r.conf: registry[0].mirror[0].location: expected where"),
    (
        b"[[registry]]\nlocation = 'a.b'\n[[registry.mirror]]\nlocation = 'c.d'\npull-from-mirror = 'some'",
        "r.conf: registry[0].mirror[0].pull-from-mirror: expected one of all, digest-only, tag-only, not 'some'",
    ),
    (
        b"[[registry]]\nlocation='a.b'\nmirror-by-digest-only=true\nmirror=[{location='c.d',pull-from-mirror='all'}]",
        "r.conf: registry[0].mirror[0].pull-from-mirror: this does not go with 'mirror-by-digest-only'",
    ),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_what_is_wrong_is_told_with_file_and_key(text: bytes, message: str) -> None:
    """Each mistake names the file, the key, and what to do."""
    with pytest.raises(SpecError) as caught:
        parse_registries_conf(text, "r.conf")
    assert message in caught.value.message
    assert caught.value.hint


HOME, ETC = Path("/home/u"), Path("/e")
OWN, SYSTEM = HOME / ".config/containers", ETC / "containers"


def test_the_usual_places_are_those_of_the_manual() -> None:
    """The user's file comes first, with the user's additions only; the system's is added to by both folders."""
    assert conf_places({}, HOME, ETC) == ConfPlaces(
        named=None,
        usual=(
            (OWN / "registries.conf", (OWN / "registries.conf.d",)),
            (SYSTEM / "registries.conf", (SYSTEM / "registries.conf.d", OWN / "registries.conf.d")),
        ),
        folders=(SYSTEM / "registries.conf.d", OWN / "registries.conf.d"),
    )


def test_a_named_file_takes_their_place() -> None:
    """The variable replaces the main file, the option everything, and XDG_CONFIG_HOME moves the user's."""
    variable = {"CONTAINERS_REGISTRIES_CONF": "/a.conf", "XDG_CONFIG_HOME": "/x"}
    by_variable = conf_places(variable, HOME, ETC)
    assert (by_variable.named, by_variable.usual) == (Path("/a.conf"), ())
    assert by_variable.folders == (SYSTEM / "registries.conf.d", Path("/x/containers/registries.conf.d"))
    assert conf_places(variable, HOME, ETC, Path("/b.conf")) == ConfPlaces(named=Path("/b.conf"))


@pytest.mark.parametrize(
    ("text", "is_without"),
    [
        ("", True),
        ("# [[registry]]\n  # prefix = 'a'\n", True),
        ('[aliases]\n"alpine" = "docker.io/library/alpine"\n', True),
        ('[aliases]\n# UBI\n\n  "registry" = "docker.io/x/registry"\n"ubi" = "registry.example/ubi"\n', True),
        ('[aliases]\n"a" = "b"\n[[registry]]\n', False),
        ('[aliases]\n"a" = "b"\nx = 1\n"registry" = "c"\n', False),
        ('[aliases]\n"a" = """\n"\n"""\n"registry" = "c"\n', False),
        ('[aliases]\n"\\u0061" = "b"\n', False),
        ('"registry" = "c"\n[aliases]\n', False),
        ("[registries.search]\nregistries = ['a']\n", False),
        ("[[registry]]\nprefix = 'a.example'\n", False),
        ("[[ registry ]]\n", False),
        ('"registry" = []\n', False),
        ('[["\\u0072egistry"]]\nprefix = "a.example"\n', False),
        ("[[registry\n", False),
    ],
)
def test_files_that_need_no_parser(text: str, is_without: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """What has no table of rules for certain is not parsed; what may have one is, however it is spelled."""
    assert is_without_rules(text.encode()) is is_without
