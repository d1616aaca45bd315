"""References: Skopeo's transports and the Docker Hub's rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.errors import InvalidReference
from syncer.oci import PathReference, Reference, Transport, parse_reference
from syncer.oci.reference import check_host, check_repository, check_tag, is_tag

D = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "expected", "locator"),
    [
        ("alpine", "docker.io/library/alpine", "latest"),
        ("alpine:3.19", "docker.io/library/alpine:3.19", "3.19"),
        ("grafana/grafana", "docker.io/grafana/grafana", "latest"),
        ("index.docker.io/alpine", "docker.io/library/alpine", "latest"),
        ("registry-1.docker.io/library/alpine:1", "docker.io/library/alpine:1", "1"),
        ("localhost/app", "localhost/app", "latest"),
        ("localhost:5000/a/b:1", "localhost:5000/a/b:1", "1"),
        ("docker://quay.io/org/app:v1", "quay.io/org/app:v1", "v1"),
        (f"quay.io/org/app:v1@{D}", f"quay.io/org/app:v1@{D}", D),
        (f"quay.io/org/app@{D}", f"quay.io/org/app@{D}", D),
        ("[::1]:5000/app:1", "[::1]:5000/app:1", "1"),
        ("Registry.Example.COM/app", "registry.example.com/app", "latest"),
        ("192.0.2.7:443/app", "192.0.2.7:443/app", "latest"),
    ],
)
def test_registry_references(text: str, expected: str, locator: str) -> None:
    """A reference is normalised as the Docker tools do, and reads back as itself."""
    reference = parse_reference(text)
    assert isinstance(reference, Reference)
    assert (str(reference), reference.locator) == (expected, locator)
    assert Reference.parse(str(reference)) == reference


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("", "invalid reference"),
        (" alpine", "invalid reference"),
        ("https://quay.io/app", "looks like a URL"),
        ("./lay:v2", "looks like a path"),
        ("../lay", "looks like a path"),
        ("/srv/lay:v2", "looks like a path"),
        ("~/lay", "looks like a path"),
        ("quay.io/App", "invalid repository name"),
        ("quay.io/app:", "the tag is empty"),
        ("quay.io/app:-x", "invalid tag"),
        ("quay.io/app:" + "x" * 129, "invalid tag"),
        ("quay.io/app@sha256:abc", "invalid digest"),
        ("quay.io/a//b", "invalid repository name"),
        ("quay.io/../etc", "invalid repository name"),
        ("quay.io/" + "a" * 300, "invalid repository name"),
        ("quay.io/" + "a" * 250, "over 255 characters"),
        ("ex_ample.com/app", "invalid registry"),
        ("localhost:99999/app", "there is no port 99999"),
        ("[::1]:0/app", "there is no port 0"),
        ("docker:quay.io/app", "invalid reference"),
        ("docker-archive:x.tar", "not supported"),
        ("containers-storage:x", "not supported"),
        ("oci:", "the path is empty"),
        ("dir:", "the path is empty"),
    ],
)
def test_bad_references_say_what_is_wrong_and_what_to_write(text: str, fragment: str) -> None:
    """Every refusal names the text and is one error of our tree."""
    with pytest.raises(InvalidReference, match=fragment):
        parse_reference(text)


@pytest.mark.parametrize(
    ("text", "transport", "path", "tag"),
    [
        ("oci:./images:3.19", Transport.OCI, "./images", "3.19"),
        ("oci:/srv/images", Transport.OCI, "/srv/images", ""),
        ("oci-archive:/tmp/a.tar:v1", Transport.OCI_ARCHIVE, "/tmp/a.tar", "v1"),  # noqa: S108
        ("dir:/srv/a:b", Transport.DIR, "/srv/a:b", ""),
    ],
)
def test_path_references(text: str, transport: Transport, path: str, tag: str) -> None:
    """Paths are split as Skopeo splits them, and read back as themselves."""
    assert parse_reference(text) == PathReference(transport=transport, path=path, tag=tag)
    assert str(parse_reference(text)) == text


def test_a_path_reference_may_name_a_digest() -> None:
    """oci:path@digest picks a manifest that has no tag."""
    reference = parse_reference(f"oci:./images@{D}")
    assert isinstance(reference, PathReference)
    assert (reference.path, reference.digest, str(reference)) == ("./images", D, f"oci:./images@{D}")


@given(st.text(max_size=60))
def test_any_text_parses_or_is_refused(text: str) -> None:
    """No text makes the parser fail in another way; what parses is stable."""
    try:
        reference = parse_reference(text)
    except InvalidReference:
        return
    assert parse_reference(str(reference)) == reference


@given(st.from_regex(r"[a-z0-9._/-]{1,40}", fullmatch=True))
def test_names_that_pass_are_safe_paths(name: str) -> None:
    """A repository name that passes has no part that a file system would take for another place."""
    try:
        check_repository(name)
    except InvalidReference:
        return
    assert all(part and not part.startswith((".", "-", "_")) for part in name.split("/"))


def test_tags_and_hosts() -> None:
    """Tags and hosts follow their grammar; the Hub's names are one."""
    assert check_tag("v1.0_x-Y") == "v1.0_x-Y"
    assert is_tag("_a")
    assert not is_tag(".a")
    assert check_host("index.docker.io") == "docker.io"
    with pytest.raises(InvalidReference, match="invalid registry"):
        check_host("a b")
    assert Reference.parse("quay.io/a:1").with_tag("2").tag == "2"
    assert Reference.parse("quay.io/a:1").name == "quay.io/a"
