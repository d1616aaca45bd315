"""The commands on images, against real registries."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from syncer.oci import Digest
from syncer.oci.referrers import cosign_tags
from tests.support.images import artifact, image, index, real_image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.integration.cli.conftest import Ran, Serve

    Syncer = Callable[..., Ran]

SAMPLE = index(seed="cli")


def test_inspect_tells_a_person_what_an_image_is_made_of(syncer: Syncer, serve: Serve) -> None:
    """Digest, platforms, layers, configuration and referrers are all there, each digest in full."""
    signature = artifact(subject=SAMPLE.manifest, artifact_type="application/vnd.example.signature")
    with serve("source", {"team/api:v1": SAMPLE, "team/api:sig": signature}) as registry:
        ran = syncer("inspect", f"{registry.host}/team/api:v1", "--platform", "linux/arm64")
    assert ran.code == 0, ran.err
    assert SAMPLE.digest in ran.out
    assert "linux/amd64" in ran.out
    assert "image linux/arm64/v8: 2 layers" in ran.out
    assert "referrers (1)" in ran.out
    assert "application/vnd.example.signature" in ran.out
    for layer in SAMPLE.manifests[1].layers:
        assert layer.digest in ran.out


def test_inspect_json_is_one_document(syncer: Syncer, serve: Serve) -> None:
    """The JSON names the digest, the children and the layers of the image that was chosen."""
    with serve("source", {"team/api:v1": SAMPLE}) as registry:
        ran = syncer(
            "inspect", "--output", "json", f"docker://{registry.host}/team/api:v1", "--platform", "linux/amd64"
        )
    document = json.loads(ran.out)
    assert document["digest"] == SAMPLE.digest
    assert [child["digest"] for child in document["manifests"]] == [child.digest for child in SAMPLE.children]
    assert document["image"]["platform"] == "linux/amd64"
    assert len(document["image"]["layers"]) == 2
    assert document["referrers"] == []


def test_inspect_shows_labels_and_commands_of_a_configuration(syncer: Syncer, tmp_path: Path, serve: Serve) -> None:
    """A single image is described with its own platform and its configuration."""
    sample = real_image(files={"etc/hello": b"hello\n"})
    with serve("source", {"one:v1": sample}):
        pass
    ran = syncer("inspect", f"oci:{tmp_path / 'source' / 'one'}:v1")
    assert ran.code == 0, ran.err
    assert "image linux/" in ran.out
    assert "1 layer" in ran.out
    assert "no referrers" in ran.out


def test_inspect_finds_what_cosign_keeps_under_tags(syncer: Syncer, serve: Serve) -> None:
    """A signature of the older kind is no referrer, and is shown all the same."""
    tag = cosign_tags(SAMPLE.digest)[0]
    with serve("source", {"api:v1": SAMPLE, f"api:{tag}": image(seed="signature")}) as registry:
        ran = syncer("inspect", f"{registry.host}/api:v1")
        as_json = syncer("inspect", f"{registry.host}/api:v1", "--output", "json")
    assert tag in ran.out
    assert list(json.loads(as_json.out)["companions"]) == [tag]


def test_inspect_raw_prints_the_exact_bytes(syncer: Syncer, serve: Serve) -> None:
    """The bytes of the manifest hash to its digest: nothing is added, no line end either."""
    with serve("source", {"team/api:v1": SAMPLE}) as registry:
        ran = syncer("inspect", "--raw", f"{registry.host}/team/api:v1")
        child = syncer("inspect", "--raw", "--platform", "linux/arm64/v8", f"{registry.host}/team/api:v1")
    assert Digest.of(ran.out.encode()) == SAMPLE.digest
    assert Digest.of(child.out.encode()) == SAMPLE.children[1].digest


def test_inspect_config_prints_the_exact_bytes(syncer: Syncer, serve: Serve) -> None:
    """The configuration is that of the platform asked for."""
    wanted = SAMPLE.children[1].config
    assert wanted is not None
    with serve("source", {"team/api:v1": SAMPLE}) as registry:
        ran = syncer("inspect", "--config", "--platform", "linux/arm64", f"{registry.host}/team/api:v1")
    assert Digest.of(ran.out.encode()) == wanted.digest


def test_lists_are_names_and_nothing_else(syncer: Syncer, serve: Serve) -> None:
    """Tags and repositories are printed one a line, or as JSON."""
    with serve("source", {"a/one:v1": SAMPLE, "a/one:v2": SAMPLE, "b/two:v1": SAMPLE}) as registry:
        tags = syncer("list-tags", f"docker://{registry.host}/a/one")
        as_json = syncer("list-tags", "--output=json", f"{registry.host}/a/one")
        repositories = syncer("list-repos", registry.host)
        prefixed = syncer("list-repos", registry.host, "--prefix", "b/", "--output", "json")
    assert tags.out == "v1\nv2\n"
    assert json.loads(as_json.out) == {"repository": f"{registry.host}/a/one", "tags": ["v1", "v2"]}
    assert repositories.out == "a/one\nb/two\n"
    assert json.loads(prefixed.out)["repositories"] == ["b/two"]


def test_a_layout_tree_lists_its_repositories(syncer: Syncer, serve: Serve, tmp_path: Path) -> None:
    """``oci:PATH`` is a registry too."""
    with serve("tree", {"a/one:v1": SAMPLE}):
        pass
    assert syncer("list-repos", f"oci:{tmp_path / 'tree'}").out == "a/one\n"


def test_manifest_digest_of_a_file_and_of_a_reference(syncer: Syncer, serve: Serve, tmp_path: Path) -> None:
    """Both hash the same bytes; a file needs no registry."""
    file = tmp_path / "manifest.json"
    file.write_bytes(SAMPLE.manifest.raw)
    with serve("source", {"team/api:v1": SAMPLE}) as registry:
        of_reference = syncer("manifest-digest", f"{registry.host}/team/api:v1")
    of_file = syncer("manifest-digest", str(file))
    assert of_file.out == of_reference.out == f"{SAMPLE.digest}\n"


def test_copy_keeps_the_digest_and_prints_it(syncer: Syncer, serve: Serve, tmp_path: Path) -> None:
    """The digest is printed, written to the digest file, and the target's tag stands for it."""
    with serve("source", {"team/api:v1": SAMPLE}) as source, serve("target") as target:
        ran = syncer(
            "copy",
            "--all",
            "--digestfile",
            str(tmp_path / "digest"),
            f"{source.host}/team/api:v1",
            f"{target.host}/mirror/api:v1",
        )
        arrived = syncer("manifest-digest", f"{target.host}/mirror/api:v1")
    assert ran.code == 0, ran.err
    assert ran.out == arrived.out == f"{SAMPLE.digest}\n"
    assert (tmp_path / "digest").read_text() == f"{SAMPLE.digest}\n"


def test_copy_takes_referrers_along_or_leaves_them(syncer: Syncer, serve: Serve) -> None:
    """What refers to the image travels, unless it is not wanted."""
    signature = artifact(subject=SAMPLE.manifest)
    with serve("source", {"api:v1": SAMPLE, "api:sig": signature}) as source, serve("target") as target:
        whole = syncer("copy", "--output", "json", f"{source.host}/api:v1", f"{target.host}/with:v1")
        bare = syncer("copy", "--output", "json", "--no-referrers", f"{source.host}/api:v1", f"{target.host}/bare:v1")
    assert json.loads(whole.out)["referrers"] == 1
    assert json.loads(bare.out)["referrers"] == 0


def test_copy_of_some_platforms_says_so(syncer: Syncer, serve: Serve) -> None:
    """A subset has a digest of its own, and both digests are told."""
    with serve("source", {"api:v1": SAMPLE}) as source, serve("target") as target:
        ran = syncer(
            "copy", "--output=json", "--platform", "linux/amd64", f"{source.host}/api:v1", f"{target.host}/api:v1"
        )
    document = json.loads(ran.out)
    assert document["source_digest"] == SAMPLE.digest
    assert document["digest"] != SAMPLE.digest


@pytest.mark.parametrize("transport", ["oci", "oci-archive", "dir"])
def test_copy_to_a_path_and_back(syncer: Syncer, serve: Serve, tmp_path: Path, transport: str) -> None:
    """An image comes back from a layout, an archive and a directory as it went."""
    place = f"{transport}:{tmp_path / 'there'}" + ("" if transport == "dir" else ":v1")
    with serve("source", {"api:v1": SAMPLE}) as source, serve("target") as target:
        there = syncer("copy", f"{source.host}/api:v1", place)
        back = syncer("copy", place, f"{target.host}/api:v1")
    assert (there.code, back.code) == (0, 0), there.err + back.err
    assert there.out == back.out == f"{SAMPLE.digest}\n"


def test_delete_removes_the_tag_alone(syncer: Syncer, serve: Serve) -> None:
    """The manifest and its other tags are still there."""
    with serve("target", {"api:v1": SAMPLE, "api:v2": SAMPLE}) as registry:
        ran = syncer("delete", f"{registry.host}/api:v1")
        tags = syncer("list-tags", f"{registry.host}/api")
        still = syncer("manifest-digest", f"{registry.host}/api@{SAMPLE.digest}")
    assert ran.code == 0
    assert tags.out == "v2\n"
    assert still.code == 0


@pytest.mark.parametrize("flag", ["--digest", "--force"])
def test_delete_of_the_manifest_has_to_be_asked_for(syncer: Syncer, serve: Serve, flag: str) -> None:
    """With the option all tags of the manifest go, and the command says so."""
    other = image(seed="other")
    with serve("target", {"api:v1": SAMPLE, "api:v2": SAMPLE, "api:v3": other}) as registry:
        ran = syncer("delete", flag, f"{registry.host}/api:v1")
        tags = syncer("list-tags", f"{registry.host}/api")
    assert SAMPLE.digest in ran.out
    assert "every tag" in ran.out
    assert tags.out == "v3\n"


def test_delete_by_digest_alone_is_refused(syncer: Syncer, serve: Serve) -> None:
    """A digest without the option is refused before anything is asked."""
    with serve("target", {"api:v1": SAMPLE}) as registry:
        before = len(registry.requests)
        ran = syncer("delete", f"{registry.host}/api@{SAMPLE.digest}")
        assert len(registry.requests) == before
    assert ran.code == 2
    assert "every tag that points to it would go with it" in ran.err
