"""What the engine asks of places: which abilities they have, and that no wrong byte passes for good."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from syncer.content import (
    Catalog,
    Deleter,
    Filed,
    Linker,
    ReferrerLister,
    Source,
    TagDescriber,
    Target,
    Throttled,
    is_able,
    verified,
)
from syncer.errors import DigestMismatch, SizeMismatch
from syncer.layout.repository import LayoutRepository
from syncer.oci.descriptor import Descriptor
from syncer.oci.digest import Digest
from syncer.registry.mirrors import MirroredRepository
from syncer.registry.repository import RegistryRepository

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ABILITIES: tuple[Any, ...] = (
    Catalog, Deleter, Filed, Linker, ReferrerLister, Source, TagDescriber, Target, Throttled,
)  # fmt: skip
DATA = b"some layer"
BLOB = Descriptor(media_type="", digest=Digest.of(DATA), size=len(DATA))


async def given(*chunks: bytes) -> AsyncIterator[bytes]:
    """Give ``chunks``."""
    for chunk in chunks:
        yield chunk


@pytest.mark.parametrize("kind", [LayoutRepository, MirroredRepository, RegistryRepository])
@pytest.mark.parametrize("ability", ABILITIES)
def test_abilities_are_those_of_the_protocols(kind: type, ability: Any) -> None:
    """What is remembered of a class is what isinstance tells of its objects, however often it is asked."""

    class Blank(kind):  # type: ignore[misc]  # a parameter
        def __init__(self) -> None:
            self._client = self._name = self._registry = self._tree = self

        registry = repository = "name"

    place = Blank()
    assert [is_able(place, ability) for _ in range(2)] == [isinstance(place, ability)] * 2


@pytest.mark.parametrize(
    ("chunks", "passed"),
    [
        ([DATA], [DATA]),
        ([DATA[:4], DATA[4:]], [DATA[:4], DATA[4:]]),
        ([b"", DATA[:4], b"", DATA[4:], b""], [DATA[:4], DATA[4:]]),
    ],
)
async def test_right_bytes_pass(chunks: list[bytes], passed: list[bytes]) -> None:
    """What has the digest comes out whole and in order, and is over after that."""
    checked = verified(given(*chunks), BLOB)
    assert [chunk async for chunk in checked] == passed
    assert [chunk async for chunk in checked] == []


@pytest.mark.parametrize(
    ("chunks", "error"),
    [
        ([b"some", b" laier"], DigestMismatch),
        ([b"some", b" lay"], SizeMismatch),
        ([b"some", b" layer", b"s"], SizeMismatch),
        ([b"some layers"], SizeMismatch),
        ([], SizeMismatch),
    ],
)
async def test_the_last_of_wrong_bytes_is_held_back(
    chunks: list[bytes], error: type[DigestMismatch | SizeMismatch]
) -> None:
    """Nobody gets all the bytes of a blob that is wrong, nor an end of it that looks like a good one at first."""
    checked = verified(given(*chunks), BLOB)
    passed = b""
    with pytest.raises(error):
        async for chunk in checked:
            passed += chunk
    assert len(passed) < len(b"".join(chunks) or b".")
