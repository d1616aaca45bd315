"""What goes wrong: one paragraph, the right exit code, and never a traceback."""

from __future__ import annotations

import base64
import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from syncer.registry.traffic.retry import RetryPolicy
from tests.support.docker_registry import docker_registry
from tests.support.images import image
from tests.support.scripted import scripted
from tests.support.world import spec_between

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.from_thread import BlockingPortal

    from tests.integration.cli.conftest import Ran, Serve

    Syncer = Callable[..., Ran]

SAMPLE = image(seed="cli errors", size=4096)
HEAD = "version: 1\nregistries:\n  a: {host: a.example}\n  b: {host: b.example}\n"
SPEC_ERRORS = {
    "unknown key": (HEAD + "sync:\n  - {from: a/x, to: b/x, tagz: {}}\n", "spec.yaml:6:26: sync[0].tagz"),
    "tab": ("version: 1\n\tsync: []\n", "spec.yaml:2:1"),
    "unset variable": (HEAD.replace("a.example", '"${NOT_SET}"') + "sync:\n  - {from: a/x, to: b/x}\n", "NOT_SET"),
    "one target tag twice": (
        HEAD + "sync:\n  - {name: one, from: a/x, to: b/z}\n  - {name: two, from: a/y, to: b/z}\n",
        "two",
    ),
    "bad reference": (HEAD + "sync:\n  - {from: a/UPPER, to: b/x}\n", "UPPER"),
}


@pytest.mark.parametrize("name", SPEC_ERRORS)
@pytest.mark.parametrize("command", ["run", "plan", "status", "spec validate"])
def test_a_wrong_spec_is_told_before_any_request(syncer: Syncer, tmp_path: Path, name: str, command: str) -> None:
    """Every command that reads a spec gives the place and the reason, and exits with 2."""
    text, fragment = SPEC_ERRORS[name]
    spec = tmp_path / "spec.yaml"
    spec.write_text(text)
    ran = syncer(*command.split(), str(spec))
    assert ran.code == 2
    assert fragment in ran.error
    assert ran.out == ""
    assert not (tmp_path / "syncer.db").exists()


def test_a_bad_reference_is_a_usage_error(syncer: Syncer) -> None:
    """The reference is named, and the grammar explained."""
    ran = syncer("inspect", "https://example.com/x:y")
    assert ran.code == 2
    assert "it looks like a URL" in ran.error


def test_an_unreachable_host(syncer: Syncer, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """A port where nothing listens is named; asking again later may help, so the code is 1."""
    monkeypatch.setattr("syncer.registry.standing.RetryPolicy", partial(RetryPolicy, tries=1))
    with serve("gone") as registry:
        address = registry.host
    ran = syncer("list-tags", "--quiet", f"{address}/x")
    assert ran.code == 1
    assert f"cannot connect to {address}" in ran.error


def test_a_wrong_password(syncer: Syncer, serve: Serve, tmp_path: Path) -> None:
    """Credentials that are not taken exit with 8, and are not shown."""
    (tmp_path / "htpasswd").write_text("bob:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n")
    authfile = tmp_path / "auth.json"
    with serve("locked", {"x:v1": SAMPLE}, auth="basic", htpasswd=tmp_path / "htpasswd") as registry:
        pair = base64.b64encode(b"bob:CANARY-secret").decode()
        authfile.write_text(json.dumps({"auths": {registry.host: {"auth": pair}}}))
        ran = syncer("inspect", f"{registry.host}/x:v1", "--authfile", str(authfile))
    assert ran.code == 8
    assert "CANARY" not in ran.err
    assert registry.host in ran.error


def test_a_delete_that_is_refused_says_why(syncer: Syncer, serve: Serve) -> None:
    """A read-only registry is no reason to delete the manifest, and a tag that is not there is not there."""
    with serve("kept", {"x:v1": SAMPLE}):
        pass
    with serve("kept", read_only=True) as registry:
        ran = syncer("delete", f"{registry.host}/x:v1")
        assert (ran.code, "read-only" in ran.error, "--digest" in ran.error) == (1, True, False)
    with serve("kept") as registry:
        ran = syncer("delete", f"{registry.host}/x:nosuch")
        assert (ran.code, "--digest" in ran.error) == (1, False)


def test_a_port_that_is_none_is_a_usage_error(syncer: Syncer, tmp_path: Path) -> None:
    """A port beyond 65535 is refused before anything is asked, by its line in a spec."""
    ran = syncer("copy", "127.0.0.1:99999/x:y", f"oci:{tmp_path / 'img'}:v1")
    assert (ran.code, "there is no port 99999" in ran.error) == (2, True)
    path = tmp_path / "spec.yaml"
    path.write_text(
        "version: 1\nregistries:\n  a: {host: 'a.example:99999'}\n  b: {host: b}\nsync:\n  - {from: a/x, to: b/x}\n"
    )
    ran = syncer("spec", "validate", str(path))
    assert (ran.code, "spec.yaml:3:" in ran.error, "there is no port 99999" in ran.error) == (2, True, True)


def test_a_missing_repository(syncer: Syncer, serve: Serve) -> None:
    """The repository is named."""
    with serve("empty") as registry:
        ran = syncer("list-tags", f"{registry.host}/no/such")
    assert ran.code == 1
    assert "no/such does not exist" in ran.error


def test_a_source_blob_that_is_corrupt(syncer: Syncer, serve: Serve, tmp_path: Path) -> None:
    """Bytes that do not hash to their digest stop the copy with 4, and the target has no tag."""
    digest = SAMPLE.manifest.layers[0].digest
    with serve("source", {"x:v1": SAMPLE}):
        pass
    (tmp_path / "source" / "x" / "blobs" / "sha256" / digest.encoded).write_bytes(b"?" * 4096)
    with serve("source") as source, serve("target") as target:
        ran = syncer("copy", f"{source.host}/x:v1", f"{target.host}/y:v1")
        tags = syncer("list-tags", f"{target.host}/y")
    assert ran.code == 4
    assert digest in ran.error
    assert tags.code == 1 or tags.out == ""


def test_a_run_over_a_corrupt_blob(syncer: Syncer, serve: Serve, tmp_path: Path) -> None:
    """When all that failed is content, the run exits with 4; the report lists it with its place."""
    digest = SAMPLE.manifest.layers[0].digest
    with serve("source", {"x:v1": SAMPLE}):
        pass
    (tmp_path / "source" / "x" / "blobs" / "sha256" / digest.encoded).write_bytes(b"?" * 4096)
    spec = tmp_path / "spec.yaml"
    with serve("source") as source, serve("target") as target:
        spec.write_text(spec_between(source.host, target.host, "from: source/x, to: target/y"))
        ran = syncer("run", str(spec), "--output", "json")
    failures = json.loads(ran.out)["failures"]
    assert ran.code == 4, failures
    assert [(failure["tag"], failure["error"]) for failure in failures] == [("v1", "DigestMismatch")]


def test_a_target_without_space(syncer: Syncer, serve: Serve, portal: BlockingPortal, tmp_path: Path) -> None:
    """A registry whose disk is full ends a copy and a run with 9, and no manifest is written to it."""

    async def full(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        return web.Response(status=507 if request.method == "POST" else 404)

    spec = tmp_path / "spec.yaml"
    with serve("source", {"x:v1": SAMPLE}) as source, portal.wrap_async_context_manager(scripted(full)) as target:
        copied = syncer("copy", f"{source.host}/x:v1", f"{target.address}/y:v1")
        spec.write_text(spec_between(source.host, target.address, "from: source/x, to: target/y"))
        ran = syncer("run", str(spec))
    assert (copied.code, ran.code) == (9, 9), copied.err
    assert "507" in copied.error
    assert "Free space in the registry" in copied.error
    assert not any(line.startswith("PUT") for line in target.lines)


@pytest.mark.witness
def test_a_registry_that_cannot_delete_a_tag_is_left_as_it_is(syncer: Syncer, serve: Serve, tmp_path: Path) -> None:
    """Where a tag cannot be deleted on its own, nothing is, and the command says what would do more."""
    with serve("source", {"x:v1": SAMPLE}) as source, docker_registry(tmp_path / "witness") as witness:
        assert syncer("copy", f"{source.host}/x:v1", f"{witness.host}/x:v1").code == 0
        ran = syncer("delete", f"{witness.host}/x:v1")
        missing = syncer("delete", f"{witness.host}/x:nosuch")
        assert syncer("inspect", f"{witness.host}/x:v1").code == 0
        deletes = [access for access in witness.requests() if access.method == "DELETE"]
    assert ran.code == 1
    assert "left as it is" in ran.error
    assert "If that is meant, add --digest." in ran.error
    assert (missing.code, "--digest" in missing.error) == (1, False)
    assert all("sha256:" not in access.target for access in deletes)


def test_json_errors_are_one_object(syncer: Syncer) -> None:
    """With --output json the error is JSON on standard error, usage errors included."""
    for arguments in (("inspect", "UPPER/x"), ("inspect", "--bogus"), ("bogus",)):
        ran = syncer(*arguments, "--output", "json")
        error = json.loads(ran.err)["error"]
        assert set(error) == {"type", "message", "hint", "side"}
        assert ran.out == ""
        assert ran.code == 2


def test_a_layout_is_no_tree(syncer: Syncer, tmp_path: Path) -> None:
    """Serving one layout as a tree would serve nothing: it is refused, with what to serve instead."""
    layout = tmp_path / "app"
    layout.mkdir()
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    ran = syncer("registry", "serve", str(layout))
    assert ran.code == 2
    assert f"Serve {tmp_path}; the layout is its repository 'app'" in ran.error


def test_a_repository_is_no_registry(syncer: Syncer) -> None:
    """Who wants the repositories below a name is told how to ask for them."""
    ran = syncer("list-repos", "registry.example/team")
    assert (ran.code, "Write registry.example, with --prefix team/" in ran.error) == (2, True)


def test_a_layout_without_the_tag_or_that_is_a_file(syncer: Syncer, serve: Serve, tmp_path: Path) -> None:
    """Who names a tag that is not there is told how to find those that are; a file is told from a layout."""
    layout = f"oci:{tmp_path / 'layout'}"
    with serve("source", {"x:v1": SAMPLE}) as source:
        assert syncer("copy", f"{source.host}/x:v1", f"{layout}:v1").code == 0
    ran = syncer("inspect", f"{layout}:v2")
    assert (ran.code, "there is no v2 in" in ran.error, "list-tags" in ran.error) == (1, True, True)
    (tmp_path / "file").touch()
    ran = syncer("inspect", f"oci:{tmp_path / 'file'}")
    assert (ran.code, "Check the path." in ran.error) == (1, True)


def test_a_file_is_no_tree(syncer: Syncer, tmp_path: Path) -> None:
    """A file in place of the folder to serve is called that."""
    file = tmp_path / "file"
    file.touch()
    ran = syncer("registry", "serve", str(file), "--listen", "127.0.0.1:0")
    assert (ran.code, f"{file} is no folder" in ran.error) == (2, True)


def test_a_dir_has_no_tags(syncer: Syncer, tmp_path: Path) -> None:
    """A folder with one image without a tag is not listed as empty."""
    ran = syncer("list-tags", f"dir:{tmp_path}")
    assert ran.code == 2
    assert "'syncer inspect' shows it" in ran.error


def test_a_run_that_cannot_begin_has_failed(syncer: Syncer, tmp_path: Path) -> None:
    """A file that a registry's settings name and nobody has: the run failed, and nobody interrupted it."""
    spec = tmp_path / "s.yaml"
    tls = "{ca: ./missing.pem}"
    spec.write_text(
        f"version: 1\nstate: ./s.db\nregistries:\n  a: {{host: 'localhost:1', tls: {tls}}}\n"
        f"  b: {{host: 'localhost:2', tls: {tls}}}\nsync: [{{from: a/x, to: b/x}}]\n"
    )
    ran = syncer("run", str(spec))
    assert ran.code == 2
    assert "missing.pem" in ran.error
    ran = syncer("status", str(spec), "--output", "json")
    assert [run["status"] for run in json.loads(ran.out)["runs"]] == ["failed"]


def test_a_certificate_file_that_is_not_there(syncer: Syncer, tmp_path: Path) -> None:
    """Nothing was requested, so it is a usage error, on the command line and in a spec alike."""
    missing = tmp_path / "nope.pem"
    ran = syncer("inspect", "registry.example/x:v1", "--ca", str(missing))
    assert (ran.code, str(missing) in ran.error) == (2, True)
    spec = tmp_path / "spec.yaml"
    spec.write_text(
        f"version: 1\nstate: {tmp_path}/s.db\nregistries:\n  a: {{host: a.example, tls: {{ca: ./nope.pem}}}}\n"
        "  b: {host: b.example}\nsync:\n  - {from: a/x, to: b/x}\n"
    )
    ran = syncer("run", str(spec))
    assert (ran.code, "nope.pem" in ran.error) == (2, True)


@pytest.mark.parametrize(
    "reference", ["oci:{place}/x:v1", "oci:{place}:v1", "dir:{place}/x", "oci-archive:{place}/x:v1"]
)
@pytest.mark.parametrize("is_device", [True, False])
def test_something_is_where_a_directory_should_be(
    syncer: Syncer, tmp_path: Path, reference: str, *, is_device: bool
) -> None:
    """A target in what is no directory is refused with its path, what is in its way, and what to do."""
    place, kind = (Path("/dev/full"), "a device") if is_device else (tmp_path / "file", "a file")
    if not is_device:
        place.write_text("something")
    named = reference.format(place=place)
    ran = syncer("copy", "127.0.0.1:9/x:y", named)
    path = named.split(":")[1]
    where = path if path == str(place) else f"there can be no {path}: {place}"
    # An archive makes no directory.
    hint = "Check the path." if "archive" in reference else "Name a path in a directory, or one that is not there yet."
    assert (ran.code, ran.out) == (1, "")
    assert ran.error == f"syncer: error: {where} is {kind}, and was expected to be a directory. {hint}\n"
