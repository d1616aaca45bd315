"""From a file to a spec."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from syncer.errors import SpecError
from syncer.oci.platform import Platform
from syncer.registry.settings import CreationKind, UploadForm
from syncer.spec import (
    Creation,
    Defaults,
    LayoutSpec,
    Limits,
    PasswordCredentials,
    Place,
    Proxy,
    RegistrySpec,
    Secret,
    Spec,
    TlsFiles,
    TokenCredentials,
    Upload,
    load_spec,
    parse_spec,
)

BASE = Path("/base")
GOOD = """\
version: 1
registries:
  hub: {host: docker.io}
  prod: {host: registry.example.com}
sync:
  - {from: hub/alpine, to: prod/mirror/alpine}
"""


def parse(text: str, **environ: str) -> Spec:
    """Return the spec in ``text``."""
    return parse_spec(text, file="s.yaml", base=BASE, environ=environ)


def registry(value: str, **environ: str) -> RegistrySpec | LayoutSpec:
    """Return the registry that ``value`` makes."""
    return parse(GOOD.replace("{host: docker.io}", value), **environ).registries["hub"]


def entries(text: str) -> Spec:
    """Return the spec with the entries in ``text``."""
    return parse(GOOD.replace("  - {from: hub/alpine, to: prod/mirror/alpine}\n", text))


def test_the_smallest_spec() -> None:
    """Everything that may be left out has a default."""
    spec = parse(GOOD)
    assert spec.file == "s.yaml"
    assert spec.state == BASE / "syncer.db"
    assert spec.registries["prod"] == RegistrySpec(name="prod", host="registry.example.com")
    assert spec.registries["prod"].place == Place(file="s.yaml", line=4, column=3)
    (entry,) = spec.entries
    assert entry.name == "hub/alpine"
    assert (entry.source_registry, entry.target_registry) == ("hub", "prod")
    assert entry.platforms == ()
    assert entry.referrers
    assert entry.tags.select(["a", "b"]) == ["a", "b"]
    assert str(entry.place) == "s.yaml:6:5"


def test_a_full_registry() -> None:
    """Each key of a registry arrives as a value: bytes per second, absolute paths, hidden secrets."""
    found = registry(
        "{host: 'Registry.Example.org:5000', credentials: {username: u, password: 0123}, "
        "tls: {ca: ./ca.pem, cert: /etc/c.pem, key: ../k.pem}, "
        "limits: {connections: 8, requests_per_second: 2.5, bandwidth: 1.5MiB/s}}"
    )
    assert found == RegistrySpec(
        name="hub",
        host="registry.example.org:5000",
        credentials=PasswordCredentials(username="u", password=Secret("0123")),
        tls=TlsFiles(ca=BASE / "ca.pem", cert=Path("/etc/c.pem"), key=Path("/k.pem")),
        limits=Limits(connections=8, requests_per_second=2.5, bandwidth=3 * 512 * 1024),
    )


def test_how_a_registry_is_reached_and_written() -> None:
    """Proxy, trusted hosts, upload and creation arrive; a program that is named by a path is an absolute one."""
    found = registry(
        "{host: a.b, proxy: '${PROXY}', trusted_hosts: [Storage.local, '*.corp.example:8443'], tls: {insecure: true}, "
        "upload: {form: chunks, chunk: 16MiB}, create: [./make, '{repository}', --in, ./x]}",
        PROXY="http://u:p@proxy:3128",
    )
    assert found == RegistrySpec(
        name="hub",
        host="a.b",
        tls=TlsFiles(insecure=True),
        proxy=Proxy(url=Secret("http://u:p@proxy:3128")),
        trusted_hosts=("storage.local", "*.corp.example:8443"),
        upload=Upload(form="chunks", chunk=16 * 1024**2),
        creation=Creation(kind="command", command=("/base/make", "{repository}", "--in", "./x")),
    )
    assert "u:p" not in repr(found)


@pytest.mark.parametrize("form", UploadForm)
def test_upload_forms_are_those_of_the_client(form: UploadForm) -> None:
    """The spec knows every form that the client does, by the same word."""
    found = registry(f"{{host: a.b, upload: {{form: {form}}}}}")
    assert isinstance(found, RegistrySpec)
    assert found.upload == Upload(form=form)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("create: harbor", Creation(kind=CreationKind.HARBOR)),
        ("create: ecr", Creation(kind=CreationKind.ECR)),
        ("create: [make, x]", Creation(kind=CreationKind.COMMAND, command=("make", "x"))),
    ],
)
def test_ways_to_create(value: str, expected: Creation) -> None:
    """The two words, and a program that is looked for on PATH."""
    found = registry(f"{{host: a.b, {value}}}")
    assert isinstance(found, RegistrySpec)
    assert found.creation == expected


def test_no_proxy_at_all() -> None:
    """``none`` is not the same as leaving it to the environment."""
    direct, usual = registry("{host: a.b, proxy: none}"), registry("{host: a.b}")
    assert isinstance(direct, RegistrySpec)
    assert isinstance(usual, RegistrySpec)
    assert direct.proxy == Proxy()
    assert usual.proxy is None


def test_which_registries_conf() -> None:
    """The usual ones, none, or one that is found from the folder of the spec; ``off`` is a word, quoted or not."""
    assert parse(GOOD).registries_conf == ""
    assert parse(GOOD + "registries_conf: off\n").registries_conf == "off"
    assert parse(GOOD + "registries_conf: 'off'\n").registries_conf == "off"
    assert parse(GOOD + "registries_conf: ./r.conf\n").registries_conf == "/base/r.conf"


def test_other_registries() -> None:
    """A token, plain HTTP and a layout are the other things a registry can have or be."""
    assert registry("{host: a.b, credentials: {token: x}}") == RegistrySpec(
        name="hub", host="a.b", credentials=TokenCredentials(token=Secret("x"))
    )
    assert registry("{host: localhost, plain_http: true}") == RegistrySpec(
        name="hub", host="localhost", plain_http=True
    )
    assert registry("{layout: ./carried}") == LayoutSpec(name="hub", path=BASE / "carried")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1KiB/s", 1024),
        ("200MiB/s", 200 * 1024**2),
        ("1 GiB/s", 1024**3),
        ("2MB/s", 2_000_000),
        ("5000kB/s", 5_000_000),
        ("4096B/s", 4096),
        ("1.5KiB/s", 1536),
    ],
)
def test_bandwidth(value: str, expected: int) -> None:
    """A rate is read into bytes per second."""
    found = registry(f"{{host: a.b, limits: {{bandwidth: {value}}}}}")
    assert isinstance(found, RegistrySpec)
    assert found.limits.bandwidth == expected


@pytest.mark.parametrize(
    ("host", "rest", "location"),
    [
        ("a.b", "", "a.b:443"),
        ("a.b:443", "", "a.b:443"),
        ("a.b", ", plain_http: true", "a.b:80"),
        ("a.b:5000", ", plain_http: true", "a.b:5000"),
        ("'[::1]'", "", "[::1]:443"),
        ("'[::1]:5000'", "", "[::1]:5000"),
        ("registry-1.docker.io", "", "docker.io:443"),
    ],
)
def test_locations(host: str, rest: str, location: str) -> None:
    """Two ways to write one registry have one location."""
    assert registry(f"{{host: {host}{rest}}}").location == location


def test_defaults_are_folded_in() -> None:
    """An entry has its own platforms, referrers and sole writer, else those of the defaults."""
    spec = entries(
        "  - {name: a, from: hub/a, to: prod/a}\n"
        "  - {name: b, from: hub/b, to: prod/b, platforms: [linux/arm64/v8], referrers: true}\n"
        "  - {name: c, from: hub/c, to: prod/c, platforms: all, sole_writer: false}\n"
        "defaults: {platforms: [linux/amd64], referrers: false, sole_writer: true}\n"
    )
    amd64, arm64 = Platform.parse("linux/amd64"), Platform.parse("linux/arm64/v8")
    assert [(e.platforms, e.referrers) for e in spec.entries] == [((amd64,), False), ((arm64,), True), ((), False)]
    assert [entry.sole_writer for entry in spec.entries] == [True, True, False]
    assert spec.defaults == Defaults(platforms=(amd64,), referrers=False, sole_writer=True)
    assert not any(entry.sole_writer for entry in entries("  - {name: a, from: hub/a, to: prod/a}\n").entries)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("alpine", "library/alpine"),
        ("library/alpine", "library/alpine"),
        ("*", "library/*"),
        ("**", "**"),
        ("org/*", "org/*"),
    ],
)
def test_names_on_the_docker_hub(source: str, expected: str) -> None:
    """A name of one part is an official image there, and nowhere else."""
    spec = entries(f"  - {{name: a, from: 'hub/{source}', to: 'prod/m/{{path}}'}}\n")
    assert spec.entries[0].source.text == expected
    spec = entries(f"  - {{name: a, from: 'prod/{source}', to: 'hub/m/{{path}}'}}\n")
    assert spec.entries[0].source.text == source


def test_routes() -> None:
    """An entry says where a repository goes, and that others are not its own."""
    (entry,) = entries("  - {name: a, from: 'hub/org/*', to: 'prod/m/{name}'}\n").entries
    assert entry.route("org/api") == "m/api"
    assert entry.route("team/api") is None


def test_scalars_are_what_is_written() -> None:
    """A tag that looks like a number keeps its digits, and words like no and on stay words."""
    (entry,) = entries(
        "  - {name: 1.10, from: hub/a, to: prod/a, tags: {include: [1.10, 007, no, 1_0, 0x1f]}}\n"
    ).entries
    assert entry.name == "1.10"
    assert entry.tags.literal_tags() == ("1.10", "007", "no", "1_0", "0x1f")


def test_the_environment() -> None:
    """Variables go into any text, numbers and switches among them."""
    text = GOOD.replace(
        "{host: docker.io}", "{host: '${HOST}', plain_http: '${PLAIN:-yes}', limits: {connections: '${N}'}}"
    )
    found = parse(text, HOST="localhost:5000", N="7").registries["hub"]
    expected = RegistrySpec(name="hub", host="localhost:5000", plain_http=True, limits=Limits(connections=7))
    assert found == expected


def test_anchors_and_merge_keys() -> None:
    """Anchors, merge keys and x- keys work; what is written in place wins over what is merged."""
    spec = parse_spec(
        "x-common: &common {platforms: [linux/amd64], tags: &tags {include: [a]}}\n"
        "x-more: &more {platforms: [linux/arm64], referrers: false}\n"
        + GOOD.replace("{from:", "{<<: [*common, *more], from:")
        + "  - {<<: *common, name: b, from: hub/b, to: prod/b, platforms: all, tags: *tags}\n",
        file="s.yaml",
        base=BASE,
        environ={},
    )
    first, second = spec.entries
    assert first.platforms == (Platform.parse("linux/amd64"),)
    assert not first.referrers
    assert second.platforms == ()
    assert second.tags.literal_tags() == ("a",)


def test_an_anchor_may_be_defined_twice() -> None:
    """The later of two anchors of one name holds from there on, without a warning."""
    spec = entries("  - {name: &a x, from: hub/a, to: prod/a}\n  - {name: &a y, from: hub/b, to: prod/b}\n")
    assert [entry.name for entry in spec.entries] == ["x", "y"]


def test_secrets_are_hidden_in_values() -> None:
    """A spec can be printed: its secrets do not show, and yet can be had."""
    spec = parse(
        GOOD.replace("{host: docker.io}", "{host: a.b, credentials: {username: u, password: '${P}'}}"), P="pass"
    )
    found = spec.registries["hub"]
    assert isinstance(found, RegistrySpec)
    assert isinstance(found.credentials, PasswordCredentials)
    assert found.credentials.password.reveal() == "pass"
    assert found.credentials.password == Secret("pass")
    assert hash(found.credentials.password) == hash(Secret("pass"))
    assert found.credentials.password != "pass"
    assert "pass'" not in f"{spec!r} {found.credentials.password}"
    assert "Secret(***)" in repr(spec)


def test_equal_texts_give_equal_specs() -> None:
    """A spec is a value."""
    assert parse(GOOD) == parse("# moved\n" + GOOD)


# ---------------------------------------------------------------------- files


def test_load(tmp_path: Path) -> None:
    """Relative paths start at the folder of the file, not where the command runs."""
    (tmp_path / "deep").mkdir()
    path = tmp_path / "deep" / "spec.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("sync:", "state: ../s.db\nsync:").encode())
    spec = load_spec(path, {})
    assert spec.state == tmp_path / "s.db"
    assert spec.file == str(path)


def test_load_from_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path to the spec still gives absolute paths in it."""
    monkeypatch.chdir(tmp_path)
    Path("spec.yaml").write_text(GOOD, encoding="utf-8")
    assert load_spec(Path("spec.yaml"), {}).state == tmp_path / "syncer.db"


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file, a folder, a huge file and one that is not UTF-8 are errors with a hint."""
    (tmp_path / "huge.yaml").write_bytes(b"#" * (4 * 1024 * 1024 + 1))
    (tmp_path / "latin.yaml").write_bytes(b"version: 1\nstate: caf\xe9\n")
    for name, fragment in {
        "none.yaml": "none.yaml: there is no such file",
        "": ": this is a folder, not a file",
        "huge.yaml": "huge.yaml: the spec is larger than 4 MiB",
        "latin.yaml": "latin.yaml:2:11: not UTF-8",
        "x" * 300: ": cannot be read: File name too long",
    }.items():
        with pytest.raises(SpecError) as caught:
            load_spec(tmp_path / name, {})
        assert caught.value.message.endswith(fragment)
        assert caught.value.hint


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(tmp_path: Path) -> None:
    """A file that may not be read is an error with a hint."""
    path = tmp_path / "spec.yaml"
    path.write_text(GOOD, encoding="utf-8")
    path.chmod(0)
    with pytest.raises(SpecError, match="Permission denied"):
        load_spec(path, {})


def test_importing_the_room_is_light() -> None:
    """Who only handles specs as values does not pay for pydantic and the YAML parser."""
    code = (
        "import sys, syncer.spec, syncer.plan; "
        "print({'pydantic', 'ruamel', 'asyncio', 'aiohttp'} & {name.partition('.')[0] for name in sys.modules})"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


def test_plugins_of_pydantic_have_no_part_in_a_spec(tmp_path: Path) -> None:
    """What else is installed is neither looked for nor run when a spec is read; the environment is as before."""
    plugin = tmp_path / "plugin-1.dist-info"
    plugin.mkdir()
    (plugin / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1\n")
    (plugin / "entry_points.txt").write_text("[pydantic]\nplugin = plugin:here\n")
    (tmp_path / "plugin.py").write_text("print('loaded')\nhere = None\n")
    (tmp_path / "spec.yaml").write_text(GOOD, encoding="utf-8")
    code = (
        "import os, pathlib, sys; sys.path.insert(0, sys.argv[1]); from syncer.spec import load_spec; "
        "before = dict(os.environ); load_spec(pathlib.Path(sys.argv[1], 'spec.yaml'), {}); assert os.environ == before"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == ""


def test_a_name_out_of_the_environment_is_text() -> None:
    """Bytes of a variable that are no UTF-8 (PEP 383) are escaped in a name, and stay as they are in a password."""
    credentials = 'credentials: {username: me, password: "${ODD}"}'
    text = GOOD.replace("host: docker.io", f"host: docker.io, {credentials}").replace("{from", '{name: "${ODD}", from')
    spec = parse(text, ODD="\udcff")
    assert spec.entries[0].name == "\\udcff"
    place = spec.registries["hub"]
    assert isinstance(place, RegistrySpec)
    assert place.credentials == PasswordCredentials(username="me", password=Secret("\udcff"))
