"""Reads directories of Skopeo's ``dir`` transport: manifests and blobs side by side, under their hex digests."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from tests.support.layouts.findings import Finding, Flaw, Layout
from tests.support.layouts.reading import links_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def read_dir(path: Path, tag: str) -> Layout:
    """Read the directory at ``path`` as a layout whose image has ``tag``; where nothing was begun, nothing is wrong."""
    layout = Layout()
    manifest = path / "manifest.json"
    if not manifest.exists():
        return layout
    raw = manifest.read_bytes()
    layout.tags[tag] = _digest(raw)
    version = path / "version"
    if not version.exists():
        layout.findings.append(Finding(Flaw.ABSENT, "version", "is not there"))
    elif not version.read_bytes().startswith(b"Directory Transport Version: 1."):
        layout.findings.append(Finding(Flaw.VERSION, "version", "does not say what this is"))
    layout.findings += _flaws_beside(path, raw, layout.tags[tag])
    return layout


def _flaws_beside(path: Path, raw: bytes, digest: str) -> Iterator[Finding]:
    links = links_of(raw)
    if links is None:
        yield Finding(Flaw.MANIFEST, digest, "is no manifest")
        return
    for child in links.children:
        file = path / f"{child['digest'].partition(':')[2]}.manifest.json"
        yield from _wrong_file(file, child["digest"])
        if file.exists():
            yield from _flaws_beside(path, file.read_bytes(), child["digest"])
    for blob in links.blobs:
        yield from _wrong_file(path / blob["digest"].partition(":")[2], blob["digest"])


def _wrong_file(file: Path, digest: str) -> Iterator[Finding]:
    if not file.exists():
        yield Finding(Flaw.MISSING, digest, "is missing")
    elif (actual := _digest(file.read_bytes())) != digest:
        yield Finding(Flaw.CONTENT, digest, f"has the content of {actual}")


def _digest(raw: bytes) -> str:
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"
