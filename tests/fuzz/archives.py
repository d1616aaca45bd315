"""OCI archives: the headers of tar (names, links, sizes, sparse files, extensions), cut and put together wrongly."""

from __future__ import annotations

import asyncio
import io
import tarfile
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

from syncer.layout.archive import ArchiveSource
from tests.fuzz.layouts import IMAGE, read_all
from tests.fuzz.stage import Family
from tests.support.mutating import mutated_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from random import Random

    from tests.fuzz.stage import Reader

_BLOCK = tarfile.BLOCKSIZE
#: Offset and length of each field of a header (POSIX.1-1988 ustar, with GNU's).
_FIELDS = {
    "name": (0, 100), "size": (124, 12), "mtime": (136, 12), "checksum": (148, 8), "type": (156, 1),
    "link": (157, 100), "magic": (257, 8), "owner": (265, 32), "prefix": (345, 155), "sparse": (386, 96),
    "more": (482, 1),
}  # fmt: skip
_SIZES = (
    b"00000000000\0", b"77777777777\0", b"-0000000001\0", b"\x80" + b"\0" * 11, b"\x80" + b"\xff" * 11, b"\xff" * 12,
    b"\xff" * 10 + b"\xfe\0", b"           ", b"99999999999\0", b"\x80\0\0\0\x10\0\0\0\0\0\0\0",
)  # fmt: skip
_RECORDS = (
    "size=-1", "size=99999999999999999999", "size=x", "path=blobs/sha256/../../x", "path=index.json", "path=\0",
    "linkpath=/etc/passwd", "hdrcharset=BINARY", "GNU.sparse.map=0,1,x", "GNU.sparse.map=0,-1",
    "GNU.sparse.numblocks=99999999\n", "GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.size=x",
    "GNU.sparse.realsize=-5", "GNU.sparse.name=index.json", "mtime=nan", "uid=x", "=", "a",
)  # fmt: skip


def member(name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    """Return one member, header and data."""
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(data), kind, link
    return info.tobuf(tarfile.GNU_FORMAT) + data + b"\0" * (-len(data) % _BLOCK)


def records(*texts: str) -> bytes:
    """Return the data of an extended header (POSIX.1-2001 pax)."""
    made = b""
    for text in texts:
        body = f" {text}\n".encode()
        length = len(body)
        while length != len(body) + len(str(length)):
            length = len(body) + len(str(length))
        made += str(length).encode() + body
    return made


def sized(name: str, size: bytes, kind: bytes = tarfile.REGTYPE) -> bytes:
    """Return a header whose size is these twelve bytes."""
    header = member(name, b"", kind)
    return _sealed(header[:124] + size + header[136:])


@cache
def seeds() -> tuple[bytes, ...]:
    """Return archives as Syncer writes them, and as others do."""
    blobs = {**IMAGE.blobs, **{manifest.digest: manifest.raw for manifest in IMAGE.manifests}}
    entry = {**IMAGE.manifest.descriptor.to_json(), "annotations": {"org.opencontainers.image.ref.name": "image"}}
    index = ('{"schemaVersion":2,"manifests":[' + str(entry).replace("'", '"') + "]}").encode()
    files = {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        "index.json": index,
        **{f"blobs/{digest.algorithm}/{digest.encoded}": data for digest, data in blobs.items()},
    }
    made = []
    for style in (tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w", format=style) as tar:
            for name, data in files.items():
                info = tarfile.TarInfo(f"./{name}" if style == tarfile.GNU_FORMAT else name)
                info.size = len(data)
                info.pax_headers = {"comment": "x" * 10} if style == tarfile.PAX_FORMAT else {}
                tar.addfile(info, io.BytesIO(data))
        made.append(file.getvalue())
    return tuple(made)


def _headers(data: bytes) -> list[int]:
    return [at for at in range(0, len(data) - _BLOCK + 1, _BLOCK) if data[at + 257 : at + 262] == b"ustar"]


def _sealed(header: bytes) -> bytes:
    """Put the checksum of a header right, so that what is wrong elsewhere is looked at."""
    blank = header[:148] + b" " * 8 + header[156:]
    return blank[:148] + f"{sum(blank):06o}\0 ".encode() + blank[156:]


def mutate(random: Random, data: bytes) -> bytes:
    """Change a field of a header, add a header that should not be there, or change the whole by its bytes."""
    headers = _headers(data)
    if not headers or random.random() < 0.2:
        return mutated_bytes(random, data)
    for _ in range(random.choice((1, 1, 2))):
        at = random.choice(headers)
        if random.random() < 0.4:
            data = data[:at] + _stranger(random) + data[at:]
            continue
        header = data[at : at + _BLOCK]
        start, length = _FIELDS[random.choice(tuple(_FIELDS))]
        value = _value(random, start, length)
        header = header[:start] + value[:length].ljust(length, b"\0") + header[start + length :]
        data = data[:at] + (header if start == _FIELDS["checksum"][0] else _sealed(header)) + data[at + _BLOCK :]
    return data if random.random() < 0.8 else data[: random.randrange(len(data))]


def _value(random: Random, start: int, length: int) -> bytes:
    if start in (_FIELDS["size"][0], _FIELDS["mtime"][0]):
        return random.choice(_SIZES)
    if start == _FIELDS["type"][0]:
        return bytes([random.choice(b"\0001234567LKSxgXVMDAN\xff")])
    return random.choice(
        (b"index.json", b"oci-layout", b"/", b"..", b"\xff" * length, random.randbytes(length), b"7" * length)
    )


def _stranger(random: Random) -> bytes:
    """Return a member that no good archive has."""
    kind = random.choice((b"L", b"K", b"x", b"g", b"S", b"1", b"2", b"5", b"6"))
    if kind in (b"x", b"g"):
        return member("pax", records(*random.choices(_RECORDS, k=random.choice((1, 2, 4)))), kind)
    if kind in (b"L", b"K"):
        return member("././@LongLink", b"index.json\0", kind) * random.choice((1, 2, 600))
    return member(random.choice(("index.json", "oci-layout", "blobs/sha256/x")), b"", kind, "../../etc/passwd")


async def _read(path: Path) -> None:
    async with await ArchiveSource.open(path) as source:
        refused = await read_all(source, ("image", IMAGE.digest))
        await source.referrers(IMAGE.digest)
    if refused is not None:
        raise refused


@contextmanager
def opened(folder: Path) -> Iterator[Reader]:
    """Give a reader of archives."""
    path = folder / "archive.tar"
    with asyncio.Runner() as runner:

        def read(data: bytes) -> None:
            path.write_bytes(data)
            runner.run(_read(path))

        yield read


FAMILY = Family(name="archives", is_slow=True, seeds=seeds, opened=opened, mutate=mutate)
