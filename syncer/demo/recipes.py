"""What the demo's images are made of: which layers make an image, and which files a layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from syncer.demo import layers
from syncer.oci.platform import Platform

if TYPE_CHECKING:
    from syncer.demo.layers import File, Layer

PLATFORMS = (Platform.parse("linux/amd64"), Platform.parse("linux/arm64/v8"))
_KIB = 1024

BASE = "library/base"
API = "team/api"
WEB = "team/web"


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """What an image is made of: names of layers, ``{arch}`` standing for the platform's architecture."""

    repository: str
    version: str
    created: str
    layers: tuple[str, ...]
    entrypoint: tuple[str, ...] = ("/usr/bin/python3",)

    def layer_names(self, platform: Platform) -> list[str]:
        """Return the names of the layers of the image for ``platform``, the lowest first."""
        return [name.format(arch=platform.architecture) for name in self.layers]


#: Layers of each base image, the lowest first. 1.1 adds to 1.0, the candidate 2.1 to 2.0.
_BASES = {
    "1.0": ("root-1-{arch}", "library-1", "release-1.0"),
    "1.1": ("root-1-{arch}", "library-1", "release-1.0", "release-1.1"),
    "2.0": ("root-2-{arch}", "library-2", "release-2.0"),
    "2.1-rc1": ("root-2-{arch}", "library-2", "release-2.0", "release-2.1-rc1"),
}
_APP = ("/usr/bin/python3", "-m", "app")
RECIPES = (
    Recipe(repository=BASE, version="1.0", created="2025-01-13T06:00:00Z", layers=_BASES["1.0"]),
    Recipe(repository=BASE, version="1.1", created="2025-03-10T06:00:00Z", layers=_BASES["1.1"]),
    Recipe(repository=BASE, version="2.0", created="2025-06-16T06:00:00Z", layers=_BASES["2.0"]),
    Recipe(repository=BASE, version="2.1-rc1", created="2025-09-01T06:00:00Z", layers=_BASES["2.1-rc1"]),
    Recipe(
        repository=API,
        version="v1",
        created="2025-03-12T09:30:00Z",
        layers=(*_BASES["1.1"], "network", "api-v1"),
        entrypoint=_APP,
    ),
    Recipe(
        repository=API,
        version="v2",
        created="2025-06-20T09:30:00Z",
        layers=(*_BASES["2.0"], "network", "api-v2"),
        entrypoint=_APP,
    ),
    Recipe(
        repository=API,
        version="nightly",
        created="2025-09-02T01:00:00Z",
        layers=(*_BASES["2.1-rc1"], "network", "api-nightly"),
        entrypoint=_APP,
    ),
    Recipe(
        repository=WEB,
        version="v1",
        created="2025-03-14T14:00:00Z",
        layers=(*_BASES["1.1"], "assets", "web-v1"),
        entrypoint=_APP,
    ),
    Recipe(
        repository=WEB,
        version="v2",
        created="2025-06-23T14:00:00Z",
        layers=(*_BASES["2.0"], "assets", "web-v2"),
        entrypoint=_APP,
    ),
    Recipe(
        repository=WEB,
        version="debug",
        created="2025-06-23T15:00:00Z",
        layers=(*_BASES["2.0"], "assets", "web-v2", "tools"),
        entrypoint=_APP,
    ),
)


def make_layer(name: str) -> Layer:
    """Build the layer of this name."""
    kind, _, rest = name.partition("-")
    match kind:
        case "root":
            return layers.build_layer(f"ADD root filesystem {rest}", _root(*rest.split("-")))
        case "library":
            more = ("asyncio", "re", "zoneinfo", "tomllib") if rest == "2" else ("lib2to3",)
            files = layers.library(".", "encodings", "collections", "importlib", "json", "logging", *more)
            return layers.build_layer(f"ADD library {rest}", files)
        case "release":
            return layers.build_layer(f"ADD release {rest}", _release(rest))
        case "network":
            files = layers.library("http", "urllib", "email", "xml", "xmlrpc", "wsgiref", "html", "multiprocessing")
            return layers.build_layer("COPY network libraries", files)
        case "assets":
            files = layers.library("pydoc_data", "html")
            files += [layers.filler(f"srv/www/images/{number}.webp", 320 * _KIB) for number in range(8)]
            return layers.build_layer("COPY assets", files)
        case "tools":
            files = layers.library("unittest", "idlelib", "ctypes", "curses", "sqlite3")
            return layers.build_layer("COPY debugging tools", files)
        case _:
            return layers.build_layer(f"COPY {kind} {rest}", _application(kind, rest))


def _root(major: str, architecture: str) -> list[File]:
    return [
        layers.text("etc/passwd", "root:x:0:0:root:/root:/bin/sh", "app:x:1000:1000::/srv:/bin/sh"),
        layers.text("etc/group", "root:x:0:", "app:x:1000:"),
        layers.text("etc/hosts", "127.0.0.1 localhost", "::1 localhost"),
        layers.filler(f"usr/bin/python3-{major}-{architecture}", 1536 * _KIB),
        layers.filler(f"usr/lib/{architecture}-linux/libc-{major}.so", 768 * _KIB),
    ]


def _release(version: str) -> list[File]:
    return [
        layers.text("etc/os-release", "ID=demo", 'NAME="Syncer demo"', f"VERSION_ID={version}"),
        layers.text(f"usr/share/doc/base/changes-{version}.txt", f"{version}", f"  * Demo release {version}."),
    ]


def _application(name: str, version: str) -> list[File]:
    settings = [f"{name}.option.{number} = {number * 7 % 31}" for number in range(400)]
    return [
        layers.text("srv/app/__main__.py", f"print('{name} {version}')"),
        layers.text("srv/app/settings.conf", f"version = {version}", *settings),
        layers.filler(f"srv/app/data/{name}-{version}.idx", 96 * _KIB),
    ]
