"""Layers of the demo's images: real files, in tar archives that come out the same every time.

What is in them is the standard library of the Python that runs, a few small configuration files, and
bytes that do not compress, in place of the binaries an image would have.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import sysconfig
import tarfile
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from syncer.oci import media_types
from syncer.oci.descriptor import Descriptor
from syncer.oci.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Where the library's files are in an image.
_LIBRARY = "usr/lib/python3"


@dataclass(frozen=True, kw_only=True, slots=True)
class File:
    """A file of an image; the path is relative to its root."""

    path: str
    data: bytes = field(repr=False)
    mode: int = 0o644


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """A layer: the compressed archive, the digest of the archive itself, and where it came from."""

    descriptor: Descriptor
    data: bytes = field(repr=False)
    diff_id: Digest
    created_by: str
    files: tuple[File, ...] = field(repr=False)


def build_layer(created_by: str, files: Iterable[File]) -> Layer:
    """Pack ``files`` into a gzip-compressed layer; the same files give the same bytes, on one Python."""
    ordered = tuple(sorted(files, key=lambda file: file.path))
    archive = _archive(ordered)
    data = gzip.compress(archive, compresslevel=6, mtime=0)
    return Layer(
        descriptor=Descriptor(media_type=media_types.OCI_LAYER_GZIP, digest=Digest.of(data), size=len(data)),
        data=data,
        diff_id=Digest.of(archive),
        created_by=created_by,
        files=ordered,
    )


def library(*names: str) -> list[File]:
    """Read packages of the standard library, or its own modules for the name ``.``.

    Packages that are not installed are left out: distributions cut the library in different ways.
    """
    root = Path(sysconfig.get_path("stdlib"))
    files = []
    for name in names:
        paths = root.glob("*.py") if name == "." else (root / name).rglob("*.py")
        for path in paths:
            inner = path.relative_to(root).as_posix()
            files.append(File(path=f"{_LIBRARY}/{inner}", data=path.read_bytes()))
    return files


def filler(path: str, size: int) -> File:
    """Make up a file of ``size`` bytes that do not compress, in place of a binary; they depend on ``path`` only."""
    return File(path=path, data=hashlib.shake_256(path.encode()).digest(size), mode=0o755)


def text(path: str, *lines: str) -> File:
    """Make a text file."""
    return File(path=path, data="".join(f"{line}\n" for line in lines).encode())


def _archive(files: tuple[File, ...]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        folders: set[str] = set()
        for file in files:
            for folder in reversed(PurePosixPath(file.path).parents):
                name = folder.as_posix()
                if name != "." and name not in folders:
                    folders.add(name)
                    entry = tarfile.TarInfo(name)
                    entry.type = tarfile.DIRTYPE
                    entry.mode = 0o755
                    archive.addfile(entry)
            # A TarInfo starts with user 0, group 0 and time 0.
            entry = tarfile.TarInfo(file.path)
            entry.size = len(file.data)
            entry.mode = file.mode
            archive.addfile(entry, io.BytesIO(file.data))
    return buffer.getvalue()
