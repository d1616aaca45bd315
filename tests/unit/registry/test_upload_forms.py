"""Which form a blob is sent in."""

from __future__ import annotations

import pytest

from syncer.registry.capabilities import Capabilities, Capability
from syncer.registry.hosts import traits_of
from syncer.registry.settings import UploadForm, UploadSettings
from syncer.registry.upload.forms import (
    CHUNK,
    LARGEST_MINIMUM,
    SMALL,
    Cause,
    Terms,
    bound_after,
    chunk_size,
    continuing_form,
    first_form,
    next_form,
    session_form,
)

AUTO = UploadSettings()
MIB = 1024 * 1024
NONE: frozenset[UploadForm] = frozenset()


def test_put_is_what_an_unknown_registry_gets() -> None:
    """POST and PUT is the form that every registry takes."""
    terms = Terms.of(Capabilities(), AUTO)
    assert first_form(0, AUTO, terms) is UploadForm.PUT
    assert first_form(10**12, AUTO, terms) is UploadForm.PUT


@pytest.mark.parametrize(("size", "form"), [(SMALL, UploadForm.SINGLE_POST), (SMALL + 1, UploadForm.PUT)])
def test_single_post_is_for_small_blobs_of_known_registries(size: int, form: UploadForm) -> None:
    """Where the name says that it works, blobs of up to 1 MiB go out in the POST."""
    terms = Terms.of(Capabilities(traits=traits_of("quay.io")), AUTO)
    assert form is first_form(size, AUTO, terms)
    assert session_form(size, AUTO, terms) is UploadForm.PUT


def test_what_was_observed_beats_what_is_set() -> None:
    """A registry that was seen to throw the body of a POST away is not sent another, whatever is set."""
    settings = UploadSettings(form=UploadForm.SINGLE_POST)
    capabilities = Capabilities()
    assert first_form(1, settings, Terms.of(capabilities, settings)) is UploadForm.SINGLE_POST
    capabilities.learn(Capability.SINGLE_POST, offered=False)
    assert first_form(1, settings, Terms.of(capabilities, settings)) is UploadForm.PUT


@pytest.mark.parametrize("form", [UploadForm.PUT, UploadForm.STREAM, UploadForm.CHUNKS])
def test_a_form_that_is_set_stays(form: UploadForm) -> None:
    """Nothing changes a form that is set, neither size nor refusal."""
    settings = UploadSettings(form=form)
    terms = Terms(largest_body=1, single_post=True)
    assert form is first_form(10, settings, terms)
    assert form is session_form(10, settings, terms)
    assert next_form(Cause.SIZE, NONE, settings, terms) is None


@pytest.mark.parametrize(
    ("cause", "refused", "following"),
    [
        (Cause.SIZE, {UploadForm.PUT}, UploadForm.CHUNKS),
        (Cause.SIZE, {UploadForm.PUT, UploadForm.CHUNKS}, UploadForm.STREAM),
        (Cause.REQUEST, {UploadForm.PUT}, UploadForm.STREAM),
        (Cause.REQUEST, {UploadForm.PUT, UploadForm.STREAM}, UploadForm.CHUNKS),
        (Cause.REQUEST, {UploadForm.STREAM}, UploadForm.PUT),
        (Cause.OFFSET, {UploadForm.CHUNKS}, UploadForm.PUT),
        (Cause.OFFSET, {UploadForm.CHUNKS, UploadForm.PUT}, UploadForm.STREAM),
        (Cause.REQUEST, {UploadForm.PUT, UploadForm.STREAM, UploadForm.CHUNKS}, None),
    ],
)
def test_demotion(cause: Cause, refused: set[UploadForm], following: UploadForm | None) -> None:
    """A body too large is cut into chunks, a refused request is sent otherwise, lost count leads back to one body."""
    assert following is next_form(cause, frozenset(refused), AUTO, Terms())


@pytest.mark.parametrize("host", ["ghcr.io", "gcr.io", "eu-docker.pkg.dev", "public.ecr.aws"])
def test_registries_that_do_not_chunk_are_never_sent_chunks(host: str) -> None:
    """GHCR, Google's and Amazon's registries spoil blobs that come in chunks; nothing leads to that form."""
    terms = Terms.of(Capabilities(traits=traits_of(host)), AUTO)
    assert next_form(Cause.SIZE, frozenset({UploadForm.PUT}), AUTO, terms) is UploadForm.STREAM
    assert next_form(Cause.SIZE, frozenset({UploadForm.PUT, UploadForm.STREAM}), AUTO, terms) is None


def test_a_known_bound_is_respected_from_the_start() -> None:
    """Blobs beyond the largest body go out in chunks, the others in one PUT; where chunks are no use, in a PATCH."""
    terms = Terms(largest_body=100)
    assert session_form(101, AUTO, terms) is UploadForm.CHUNKS
    assert session_form(100, AUTO, terms) is UploadForm.PUT
    assert session_form(101, AUTO, Terms(largest_body=100, chunks=False)) is UploadForm.STREAM
    assert first_form(101, AUTO, Terms(largest_body=100, single_post=True)) is UploadForm.CHUNKS


def test_a_refused_put_is_remembered() -> None:
    """Where a PUT with the blob was refused, the PATCH comes first, and where that was too, chunks."""
    assert session_form(9, AUTO, Terms(whole_put=False)) is UploadForm.STREAM
    assert session_form(9, AUTO, Terms(whole_put=False, stream=False)) is UploadForm.CHUNKS
    assert session_form(9, AUTO, Terms(whole_put=False, stream=False, chunks=False)) is UploadForm.PUT


@pytest.mark.parametrize(
    ("size", "chunk", "terms", "minimum", "expected"),
    [
        (100 * MIB, 0, Terms(), 0, CHUNK),
        (100 * MIB, 0, Terms.of(Capabilities(traits=traits_of("ghcr.io")), AUTO), 0, 4 * MIB),
        (100 * MIB, 5 * MIB, Terms(), 0, 5 * MIB),
        (100 * MIB, 5 * MIB, Terms(), 8 * MIB, 8 * MIB),
        (100 * MIB, 0, Terms(), 10**18, LARGEST_MINIMUM),
        (100 * MIB, 0, Terms(largest_body=7 * MIB), 0, 7 * MIB),
        (100 * MIB, 0, Terms(largest_body=7 * MIB), 9 * MIB, 7 * MIB),
        (100_000 * MIB, 0, Terms(), 0, 100 * MIB),
    ],
)
def test_chunk_size(size: int, chunk: int, terms: Terms, minimum: int, expected: int) -> None:
    """Chunks are 16 MiB, or what is set, or wanted by the registry up to 1 GiB; never beyond a known bound."""
    assert expected == chunk_size(size, UploadSettings(chunk=chunk), terms, minimum)


def test_bound_after_a_refusal() -> None:
    """A refused blob says that its size is too much; a refused chunk, that half of it is worth trying."""
    assert bound_after(100 * MIB) == 100 * MIB - 1
    assert bound_after(CHUNK) == CHUNK // 2


@pytest.mark.parametrize(
    ("host", "form", "expected"),
    [
        ("registry.example.com", UploadForm.AUTO, UploadForm.STREAM),
        ("registry.example.com", UploadForm.SINGLE_POST, UploadForm.STREAM),
        ("registry.example.com", UploadForm.STREAM, UploadForm.STREAM),
        ("registry.example.com", UploadForm.CHUNKS, UploadForm.CHUNKS),
        ("registry.example.com", UploadForm.PUT, None),
        ("ghcr.io", UploadForm.AUTO, None),
        ("ghcr.io", UploadForm.STREAM, None),
        ("ghcr.io", UploadForm.CHUNKS, UploadForm.CHUNKS),
    ],
)
def test_the_rest_of_a_blob_goes_out_in_a_patch(host: str, form: UploadForm, expected: UploadForm | None) -> None:
    """What a session has already is gone on with where the registry puts blobs together, and no setting forbids it."""
    settings = UploadSettings(form=form)
    assert expected is continuing_form(10, settings, Terms.of(Capabilities(traits=traits_of(host)), settings))


def test_the_rest_goes_out_as_the_registry_was_seen_to_take_it() -> None:
    """Chunks where a body was too large, or one long PATCH was refused."""
    assert continuing_form(10, AUTO, Terms(largest_body=9)) is UploadForm.CHUNKS
    assert continuing_form(10, AUTO, Terms(stream=False)) is UploadForm.CHUNKS
    assert continuing_form(10, AUTO, Terms(whole_put=False)) is UploadForm.STREAM
