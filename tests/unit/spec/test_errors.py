"""Each way in which a spec can be wrong, and what is said of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncer.errors import SpecError
from syncer.spec import parse_spec
from syncer.telemetry.redaction import redact

REGISTRIES = """\
version: 1
registries:
  hub: {host: docker.io}
  prod: {host: registry.example.com}
"""
SYNC = """\
sync:
  - from: hub/library/alpine
    to: prod/mirror/alpine
"""
GOOD = REGISTRIES + SYNC
SECOND = GOOD + "  - from: hub/library/*\n"


def told(text: str, **environ: str) -> list[str]:
    """Return the lines of the error for ``text``, and its hint as the last."""
    with pytest.raises(SpecError) as caught:
        parse_spec(text, file="s.yaml", base=Path("/base"), environ=environ)
    assert caught.value.message.startswith("s.yaml")
    return [*caught.value.message.splitlines(), caught.value.hint]


def registry(value: str) -> str:
    """Return the good spec with another first registry, on line 3."""
    return GOOD.replace("{host: docker.io}", value)


def entry(value: str) -> str:
    """Return the good spec with one more key in its entry, on line 8."""
    return GOOD + f"    {value}\n"


YAML = [
    ("", "s.yaml:1:1: the spec is empty", "version: 1"),
    ("# nothing\n", "s.yaml:1:1: the spec is empty", "version: 1"),
    ("a: [1\nb: 2\n", "s.yaml:2:2: not valid YAML: expected ',' or ']'", "quotes"),
    (GOOD + "---\nversion: 1\n", "s.yaml:8:1: not valid YAML: a second YAML document begins here", "each file"),
    (GOOD + "\tname: x\n", "s.yaml:8:1: not valid YAML: a tab", "spaces"),
    ("a: b\n  c: d\n", "s.yaml:2:4: not valid YAML: mapping values", "indentation"),
    ("%YAML 1.9\n---\n" + GOOD, "s.yaml: a %YAML directive names a version that is not known", "Remove"),
    ("[a]\n%YAML 9.9", "s.yaml: a %YAML directive names a version that is not known", "Remove"),
    ("version: \x01\n", "s.yaml:1:10: a character that YAML does not allow", "Remove"),
    (entry('name: "x\\ud800"'), "s.yaml:8:11: sync[0].name: half of a surrogate pair", "Remove"),
    (registry("{host: *nowhere}"), "s.yaml:3:15: not valid YAML: an alias to an anchor that is not", "Quote"),
    (registry("{host: ${HOST}}"), "s.yaml:3:16: not valid YAML: expected ','", '"${NAME}"'),
    (GOOD + "version: 1\n", "s.yaml:8:1: version: the key is given twice, first on line 1", "Remove one"),
    (entry("to: x"), "s.yaml:8:5: sync[0].to: the key is given twice, first on line 7", "Remove one"),
    (GOOD + "? [a]\n: b\n", "s.yaml:8:3: a key must be text", ""),
    (GOOD + "<<: [1]\n", "s.yaml:1:1: '<<' takes a mapping", "anchor"),
    (entry("name: !secret x"), "s.yaml:8:11: sync[0].name: the YAML tag !secret is not used", "Remove"),
    ("[" * 1000, "s.yaml: the YAML is nested too deeply", ""),
    ("a: &a [*a]\n", "s.yaml:1:4: nested too deeply, or an alias to what contains it", ""),
    ("#" * (4 * 1024 * 1024 + 1), "s.yaml: the spec is larger than 4 MiB", "Split"),
]
TYPES = [
    ("- a\n", "s.yaml:1:1: expected a mapping, not a list", ""),
    ("text\n", "s.yaml:1:1: expected a mapping, not 'text'", ""),
    (SYNC + "version: 1\n", "s.yaml:1:1: registries: the key 'registries' is missing", ""),
    (GOOD.replace("version: 1", "version: 2"), "s.yaml:1:10: version: this Syncer reads version 1", "'version: 1'"),
    (GOOD.replace("sync:", "snyc:"), "s.yaml:5:1: snyc: unknown key 'snyc'", "Did you mean 'sync'?"),
    (GOOD + "zzzzzz: 1\n", "s.yaml:8:1: zzzzzz: unknown key 'zzzzzz'", "state, registries, registries_conf, defaults"),
    (entry("tags: {inclde: [a]}"), "s.yaml:8:12: sync[0].tags.inclde: unknown key 'inclde'", "'include'"),
    (entry("plaforms: all"), "s.yaml:8:5: sync[0].plaforms: unknown key 'plaforms'", "'platforms'"),
    (GOOD + "defaults: {referers: true}\n", "s.yaml:8:12: defaults.referers: unknown key", "'referrers'"),
    (registry("{host: a.b, tls: {caa: x}}"), "s.yaml:3:26: registries.hub.tls.caa: unknown key 'caa'", "'ca'"),
    (GOOD.replace("version: 1\n", ""), "s.yaml:1:1: version: the key 'version' is missing", "Write 'version: 1'."),
    (REGISTRIES + "sync:\n  - from: hub/a\n", "s.yaml:6:5: sync[0].to: the key 'to' is missing", "where to write"),
    (entry("tags: [a]"), "s.yaml:8:11: sync[0].tags: expected a mapping, not a list", "{include: [...]}"),
    (registry("{host: a.b, credentials: x}"), "s.yaml:3:33: registries.hub.credentials: expected a", "username"),
    (registry("{HOST: a.b}"), "s.yaml:3:9: registries.hub.HOST: unknown key 'HOST'", "'host'"),
    (GOOD.replace("to:", "TO:"), "s.yaml:7:5: sync[0].TO: unknown key 'TO'", "'to'"),
    (GOOD.replace("to:", "target:"), "s.yaml:7:5: sync[0].target: unknown key 'target'", "'to'"),
    (GOOD.replace("from:", "source:"), "s.yaml:6:5: sync[0].source: unknown key 'source'", "'from'"),
    (entry("tags: {allow: [a]}"), "s.yaml:8:12: sync[0].tags.allow: unknown key 'allow'", "'include'"),
    (entry("creds: x"), "s.yaml:8:5: sync[0].creds: unknown key 'creds'", "Known keys here"),
    (registry("{hst: a.b}"), "s.yaml:3:9: registries.hub.hst: unknown key 'hst'", "'host'"),
    (registry("{host: a.b, limits: {conections: 1}}"), "s.yaml:3:29: registries.hub.limits.conections", "connections"),
    (entry("tags:"), "s.yaml:8:5: sync[0].tags: there is no value", "Remove the key"),
    (entry("tags: {include: latest}"), "s.yaml:8:21: sync[0].tags.include: expected a list, not 'latest'", "[latest]"),
    (entry("tags: {include: []}"), "s.yaml:8:21: sync[0].tags.include: expected at least one", ""),
    (entry("tags: {include: [[a]]}"), "s.yaml:8:22: sync[0].tags.include[0]: expected text, not a list", ""),
    (entry("tags: {include: ['a[']}"), "s.yaml:8:22: sync[0].tags.include[0]: the pattern 'a['", "Close"),
    (entry("tags: {exclude: ['re:(']}"), "s.yaml:8:22: sync[0].tags.exclude[0]: 're:(' is not a regular", "Python"),
    (entry("tags: {immutable: [-x]}"), "s.yaml:8:24: sync[0].tags.immutable[0]: no tag can match '-x'", "128"),
    (entry("tags: all"), "s.yaml:8:11: sync[0].tags: expected a mapping, not 'all'", ""),
    (entry("referrers: maybe"), "s.yaml:8:16: sync[0].referrers: expected true or false, not 'maybe'", ""),
    (entry("referrers: []"), "s.yaml:8:16: sync[0].referrers: expected true or false, not an empty list", ""),
    (entry("platforms: linux"), "s.yaml:8:16: sync[0].platforms: expected 'all' or a list of", "[linux/amd64"),
    (entry("platforms: [linux]"), "s.yaml:8:17: sync[0].platforms[0]: invalid platform 'linux'", "linux/arm64/v8"),
    (entry("platforms: []"), "s.yaml:8:16: sync[0].platforms: expected 'all' or at least one", ""),
    (entry('name: ""'), "s.yaml:8:11: sync[0].name: expected a text that is not empty", "variable"),
    (REGISTRIES + "sync: []\n", "s.yaml:5:7: sync: expected at least one", ""),
    (SYNC + "version: 1\nregistries: {}\n", "s.yaml:5:13: registries: expected at least one", ""),
    (registry("{host: a.b, limits: {connections: 0}}"), "s.yaml:3:42: registries.hub.limits.connections: expected", ""),
    (registry("{host: a.b, limits: {connections: 1.5}}"), "s.yaml:3:42: registries.hub.limits.connections", ""),
    (registry("{host: a.b, limits: {requests_per_second: 0}}"), "s.yaml:3:50: registries.hub.limits.requests", ""),
    (registry("{host: a.b, limits: {requests_per_second: nan}}"), "s.yaml:3:50: registries.hub.limits.requests", ""),
    (registry("{host: a.b, limits: {bandwidth: 9Mb/s}}"), "s.yaml:3:40: registries.hub.limits.bandwidth", "bits"),
    (registry("{host: a.b, limits: {bandwidth: 9B/s}}"), "s.yaml:3:40: registries.hub.limits.bandwidth", ""),
    (
        registry("{host: a.b, upload: {form: patch}}"),
        "s.yaml:3:35: registries.hub.upload.form: expected one of auto",
        "",
    ),
    (registry("{host: a.b, upload: {chunk: 16}}"), "s.yaml:3:36: registries.hub.upload.chunk: expected a size", "unit"),
    (
        registry("{host: a.b, upload: {chunk: 2GiB}}"),
        "s.yaml:3:36: registries.hub.upload.chunk: expected a size from",
        "",
    ),
    (
        registry("{host: a.b, upload: {chunk: 1KiB}}"),
        "s.yaml:3:36: registries.hub.upload.chunk: expected a size from",
        "",
    ),
    (registry("{host: a.b, upload: put}"), "s.yaml:3:28: registries.hub.upload: expected a mapping", ""),
    (registry("{host: a.b, upload: {from: put}}"), "s.yaml:3:29: registries.hub.upload.from: unknown key", "'form'"),
    (registry("{host: a.b, create: nexus}"), "s.yaml:3:28: registries.hub.create: expected 'harbor', 'ecr'", "ecr"),
    (registry("{host: a.b, create: []}"), "s.yaml:3:28: registries.hub.create: expected 'harbor', 'ecr'", "list"),
    (registry("{host: a.b, create: [x, '']}"), "s.yaml:3:28: registries.hub.create: expected 'harbor', 'ecr'", ""),
    (
        registry("{host: a.b, proxy: p.example}"),
        "s.yaml:3:27: registries.hub.proxy: expected 'none' or the URL",
        "http:",
    ),
    (registry("{host: a.b, proxy: 'ftp://p:1'}"), "s.yaml:3:27: registries.hub.proxy: expected 'none' or", "http:"),
    (registry("{host: a.b, proxy: 'http://p:1/x'}"), "s.yaml:3:27: registries.hub.proxy: expected 'none' or", "path"),
    (
        registry("{host: a.b, proxy: 'socks5://p:1'}"),
        "s.yaml:3:27: registries.hub.proxy: SOCKS proxies are",
        "HTTP proxy",
    ),
    (
        registry("{host: a.b, trusted_hosts: x.y}"),
        "s.yaml:3:35: registries.hub.trusted_hosts: expected a list",
        "[x.y]",
    ),
    (registry("{host: a.b, trusted_hosts: ['a b']}"), "s.yaml:3:36: registries.hub.trusted_hosts[0]: invalid", "host"),
    (registry("{host: a.b, trusted_hosts: ['*']}"), "s.yaml:3:36: registries.hub.trusted_hosts[0]: invalid", "host"),
    (registry("{host: a.b, tls: {insecure: x}}"), "s.yaml:3:36: registries.hub.tls.insecure: expected true or", ""),
    (GOOD + "registries_conf: []\n", "s.yaml:8:18: registries_conf: expected text, not an empty list", ""),
    (registry('{host: "https://a.b"}'), "s.yaml:3:15: registries.hub.host: invalid registry", "host name"),
]
MEANING = [
    (registry("{plain_http: true}"), "s.yaml:3:3: registries.hub: expected either 'host' or 'layout'", ""),
    (registry("{host: a.b, layout: x}"), "s.yaml:3:3: registries.hub: expected either 'host' or 'layout'", ""),
    (registry("{layout: x, plain_http: true}"), "s.yaml:3:20: registries.hub.plain_http: 'plain_http' does not", ""),
    (registry("{layout: ~/x}"), "s.yaml:3:17: registries.hub.layout: '~' is not expanded", "${HOME}"),
    (registry("{host: a.b, plain_http: true, tls: {ca: x}}"), "s.yaml:3:38: registries.hub.tls: 'tls' does not", ""),
    (registry("{host: a.b, tls: {cert: x}}"), "s.yaml:3:20: registries.hub.tls: expected both of 'cert'", ""),
    (
        registry("{host: a.b, tls: {ca: x, insecure: true}}"),
        "s.yaml:3:33: registries.hub.tls.insecure: 'insecure'",
        "ca",
    ),
    (
        registry("{host: a.b, upload: {form: put, chunk: 1MiB}}"),
        "s.yaml:3:40: registries.hub.upload.chunk: 'chunk'",
        "",
    ),
    (registry("{layout: x, create: ecr}"), "s.yaml:3:20: registries.hub.create: 'create' does not apply", "Remove"),
    (GOOD + "registries_conf: ~/r.conf\n", "s.yaml:8:18: registries_conf: '~' is not expanded", "${HOME}"),
    (registry("{host: a.b, credentials: {username: x}}"), "s.yaml:3:20: registries.hub.credentials: expected 'use", ""),
    (registry("{host: a.b, credentials: {token: x, username: y}}"), "s.yaml:3:20: registries.hub.credentials: ex", ""),
    (
        GOOD.replace("  hub:", "  hub: {host: b.c}\n  hub/x:"),
        "s.yaml:4:3: registries.hub/x: 'hub/x' cannot name a registry",
        "'host'",
    ),
    (GOOD + "state: postgresql://db/x\n", "s.yaml:8:8: state: expected a path, not a URL", "files"),
    (GOOD.replace("hub/lib", "hbu/lib"), "s.yaml:6:11: sync[0].from: no registry 'hbu' is declared", "'hub'"),
    (GOOD.replace("hub/lib", "zzz/lib"), "s.yaml:6:11: sync[0].from: no registry 'zzz' is declared", "hub, prod"),
    (GOOD.replace("hub/lib", "quay.io/lib"), "s.yaml:6:11: sync[0].from: no registry 'quay.io' is", "'registries'"),
    (GOOD.replace("hub/library/alpine", "hub"), "s.yaml:6:11: sync[0].from: expected registry/repository", "hub/**"),
    (GOOD.replace("library/alpine", "alpine:3"), "s.yaml:6:11: sync[0].from: 'alpine:3' has a tag", "'tags'"),
    (GOOD.replace("mirror/alpine", "a@sha256:x"), "s.yaml:7:9: sync[0].to: 'a@sha256:x' has a tag or", "'tags'"),
    (GOOD.replace("library", "Library"), "s.yaml:6:11: sync[0].from: invalid repository name", "lower-case"),
    (GOOD.replace("library/alpine", "a//*"), "s.yaml:6:11: sync[0].from: no repository can match 'a//*'", "lower"),
    (GOOD.replace("mirror/alpine", "m/{nam}"), "s.yaml:7:9: sync[0].to: the template 'm/{nam}' has", "{name}"),
    (GOOD.replace("mirror/alpine", "m/*"), "s.yaml:7:9: sync[0].to: the target 'm/*' has '*'", "{path}"),
    (GOOD.replace("mirror/alpine", "-/{path}"), "s.yaml:7:9: sync[0].to: '-/{path}' makes '-/library/alpine'", ""),
    (SECOND + "    to: prod/m\n", "s.yaml:9:9: sync[1].to: 'from' may match many repositories", "{path}"),
    (SECOND + "    to: 'prod/m/{parent}'\n", "s.yaml:9:9: sync[1].to: 'from' may match many", "{path}"),
    (SECOND + "    to: 'prod/-/{path}'\n", "s.yaml:9:9: sync[1].to: '-/{path}' can make no repository", ""),
    (
        GOOD + "  - {from: hub/library/alpine, to: prod/y}\n",
        "s.yaml:8:12: sync[1].from: another entry has the name 'hub/library/alpine' already (line 6)",
        "'name'",
    ),
    (
        GOOD + "  - {name: hub/library/alpine, from: hub/b, to: prod/y}\n",
        "s.yaml:8:12: sync[1].name: another entry has the name",
        "'name'",
    ),
]


@pytest.mark.parametrize(("text", "prefix", "hint"), [*YAML, *TYPES, *MEANING])
def test_what_is_said(text: str, prefix: str, hint: str) -> None:
    """Each mistake is told at its place, with its path, what was expected and what to do; and alone."""
    lines = told(text)
    assert lines[0].startswith(prefix)
    assert hint in lines[-1]
    assert len(lines) == 2


@pytest.mark.parametrize(
    ("key", "place"),
    [
        ("schedule: '0 2 * * *'", "s.yaml:8:5: sync[0].schedule"),
        ("prune: {mode: off}", "s.yaml:8:5: sync[0].prune"),
        ("tags: {semver: '>=1'}", "s.yaml:8:12: sync[0].tags.semver"),
        ("tags: {newest: 10}", "s.yaml:8:12: sync[0].tags.newest"),
        ("tags: {newer_than: 90d}", "s.yaml:8:12: sync[0].tags.newer_than"),
        ("tags: {min_age: 2d}", "s.yaml:8:12: sync[0].tags.min_age"),
    ],
)
def test_keys_of_later_versions(key: str, place: str) -> None:
    """A key that the language has and this version does not read is refused as that, not as a typing error."""
    (line, _) = told(entry(key))
    assert line == f"{place}: {line.rpartition(': ')[2]}"
    assert "not supported yet in this version" in line


def test_all_is_told_at_once() -> None:
    """Problems of YAML, of types, of variables and of meaning come in one error, in the order of the file."""
    text = GOOD.replace("docker.io", "'${NOPE}'").replace("prod/mirror", "prdo/mirror")
    text += "    nme: x\n  - from: hbu/a\n    to: prod/y\n    referrers: 7\n  - {from: prod/x, to: prdo/y, to: z}\n"
    *lines, hint = told(text)
    assert [line.split(": ")[0] + " " + line.split(": ")[1] for line in lines] == [
        "s.yaml:3:16 registries.hub.host",
        "s.yaml:8:5 sync[0].nme",
        "s.yaml:11:16 sync[1].referrers",
        "s.yaml:12:24 sync[2].to",
        "s.yaml:12:32 sync[2].to",
    ]
    assert not hint


def test_long_lists_of_problems_are_cut() -> None:
    """Twenty problems are told, and the others counted."""
    *lines, _ = told(GOOD + "".join(f"zz{index}: 1\n" for index in range(30)))
    assert len(lines) == 21
    assert lines[-1] == "and 10 more"


def test_unset_variables_are_told_where_they_stand() -> None:
    """The column is that of the dollar sign, also in a long text and in an alias."""
    assert told(registry('{host: "a.${B}.c"}'))[0] == "s.yaml:3:18: registries.hub.host: the variable B is not set"
    text = "x-h: &h\n  host: x.${HOST}\n" + registry("*h")
    assert told(text)[0] == "s.yaml:2:11: registries.hub.host: the variable HOST is not set"
    assert told(GOOD + '    name: "${N\\x20}"\n')[0].startswith("s.yaml:8:11: sync[0].name: expected ${NAME}")
    text = GOOD + '    name: "a\\\n      ${N}"\n'
    assert told(text)[0] == "s.yaml:9:7: sync[0].name: the variable N is not set"


def test_variables_that_are_empty_are_named() -> None:
    """What is written is quoted, so that it is seen which one; the last lock before the terminal lets it through."""
    text = registry("{host: a.b, credentials: {username: u, password: '${PASSWORD}'}}")
    with pytest.raises(SpecError) as caught:
        parse_spec(text, file="s.yaml", base=Path("/base"), environ={"PASSWORD": ""})
    assert "password: expected a text that is not empty, and '${PASSWORD}' does not give it" in redact(
        str(caught.value)
    )


def test_hints_survive_the_redaction() -> None:
    """What they show of a URL with a password is not taken for one."""
    text = registry("{host: a.b, proxy: p.example}")
    with pytest.raises(SpecError) as caught:
        parse_spec(text, file="s.yaml", base=Path("/base"), environ={})
    assert redact(caught.value.hint) == caught.value.hint


def test_unused_anchors_need_no_variables() -> None:
    """What stands under an x- key is not read until it is used."""
    text = "x-a: &a {from: '${NOPE}'}\nx-b: [*a, {<<: *a}]\n" + GOOD
    assert parse_spec(text, file="s.yaml", base=Path("/base"), environ={}).entries


@pytest.mark.untraced
def test_alias_bombs_are_refused() -> None:
    """Aliases to aliases are expanded up to a bound, and no further."""
    levels = ["x-0: &x0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    levels += [f"x-{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 10)}]" for n in range(1, 9)]
    (line, _) = told("\n".join(levels) + "\nversion: *x8\n")
    assert "more than 200000 values" in line


def test_a_mapping_merged_into_itself() -> None:
    """A merge key that leads back to its own mapping ends with an error."""
    assert (
        "s.yaml:1:13: registries: '<<' takes a mapping, or a list of mappings"
        in told("registries: &a {<<: *a}\n" + SYNC + "version: 1\n")[0]
    )


def test_one_mistake_is_told_once() -> None:
    """A misspelled key is not also a missing one."""
    assert told(GOOD.replace("to:", "too:"))[:-1] == ["s.yaml:7:5: sync[0].too: unknown key 'too'"]


@pytest.mark.parametrize("exclude", ["a, b", "'*'", "'re:[ab]'"])
def test_an_entry_that_can_select_nothing(exclude: str) -> None:
    """Tags that are all named, and all excluded, are a mistake: the entry would do nothing, and be called done."""
    (line, hint) = told(entry(f"tags: {{include: [a, b], exclude: [{exclude}]}}"))
    assert line == "s.yaml:8:29: sync[0].tags.exclude: every tag that is included is excluded again"
    assert hint


@pytest.mark.untraced
def test_merge_bombs_are_refused() -> None:
    """The same for merge keys."""
    levels = ["x-0: &x0 {a: 1}"]
    levels += [f"x-{n}: &x{n} {{<<: [{', '.join([f'*x{n - 1}'] * 10)}]}}" for n in range(1, 9)]
    (line, _) = told("\n".join(levels) + "\nversion: *x8\n")
    assert "more than 200000 values" in line


CANARY = "c4n4ry-5ecret"
SECRETIVE = [
    registry("{host: a.b, credentials: {username: u, password: '${SECRET}', token: '${SECRET}'}}"),
    registry("{host: a.b, credentials: '${SECRET}'}"),
    registry(f"{{host: a.b, credentials: {CANARY}}}"),
    registry(f"{{host: a.b, credentials: {{{CANARY}: x}}}}"),
    registry(f"{{host: a.b, credentials: {{username: u, {CANARY}}}}}"),
    registry(f"{{host: a.b, credentials: {{{CANARY}: x, {CANARY}: y}}}}"),
    registry(f"{{host: a.b, credentials: {{{CANARY}: '${{NOPE}}'}}}}"),
    registry(f"{{host: a.b, credentials: {{{CANARY}: {{<<: x}}}}}}"),
    registry(f"{{host: a.b, proxy: {{{CANARY}}}}}"),
    registry(f"{{host: a.b, credentials: {{password: [{CANARY}]}}}}"),
    registry(f"{{host: a.b, credentials: {{password: *{CANARY}}}}}"),
    registry("{host: '${SECRET}!'}"),
    registry("{host: a.b, proxy: '${SECRET}'}"),
    registry(f"{{host: a.b, proxy: 'http://u:{CANARY}@'}}"),
    registry(f"{{host: a.b, proxy: 'socks5://u:{CANARY}@p:1'}}"),
    registry(f"{{host: a.b, proxy: [{CANARY}]}}"),
    registry(f"{{host: a.b, proxy: {{{CANARY}: x}}}}"),
    registry("{host: a.b, upload: {form: '${SECRET}', chunk: '${SECRET}'}, create: '${SECRET}'}"),
    registry("{host: a.b, trusted_hosts: ['${SECRET}!']}"),
    registry("{host: a.b, limits: {connections: '${SECRET}', bandwidth: '${SECRET}'}}"),
    registry("{host: a.b, plain_http: '${SECRET}', tls: '${SECRET}'}"),
    registry("{layout: '~${SECRET}'}"),
    GOOD.replace("hub/library/alpine", "'${SECRET}'"),
    GOOD.replace("library/alpine", "'${SECRET}:x'").replace("from: hub/'", "from: 'hub/"),
    GOOD.replace("prod/mirror/alpine", "'prod/{${SECRET}}'"),
    GOOD.replace("prod/mirror/alpine", "'prod/${SECRET}!'"),
    GOOD.replace("version: 1", "version: '${SECRET}'"),
    GOOD + "state: '${SECRET}://x'\n",
    entry("tags: {include: ['${SECRET}', 're:${SECRET}(', '-${SECRET}']}"),
    entry("platforms: ['${SECRET}']"),
    entry("platforms: '${SECRET}'"),
    entry("name: '${SECRET}'") + "  - {name: '${SECRET}', from: hub/b, to: prod/mirror/alpine}\n",
    GOOD.replace("mirror", "'${SECRET}'").replace("to: prod/'${SECRET}'/alpine", "to: 'prod/${SECRET}'")
    + "  - {from: hub/b, to: 'prod/${SECRET}'}\n",
]


@pytest.mark.parametrize("text", SECRETIVE)
def test_secrets_do_not_show(text: str) -> None:
    """Neither what comes from the environment nor what stands under credentials is quoted by an error."""
    with pytest.raises(SpecError) as caught:
        parse_spec(text, file="s.yaml", base=Path("/base"), environ={"SECRET": CANARY})
    error = caught.value
    assert CANARY not in " ".join([str(error), repr(error), error.hint, error.path, error.detail, error.paragraph()])
    assert error.__cause__ is None
