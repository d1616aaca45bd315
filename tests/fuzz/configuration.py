"""registries.conf and its drop-ins, and the folders of certs.d."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from syncer.oci.reference import check_repository
from syncer.registry.network.certificates import contexts_of, find
from syncer.registry.registries_conf import RegistriesConf, parse_registries_conf
from syncer.registry.settings import RegistrySettings, TlsSettings
from tests.fuzz.stage import Family, always, pure
from tests.support.mutating import mutated_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from random import Random

    from tests.fuzz.stage import Reader

_NAMES = (
    ("docker.io", "library/alpine"),
    ("quay.test", "org/app"),
    ("a.b.test", "x"),
    ("registry.test:5000", "team/app"),
)
_TOKENS = (
    b"[[registry]]\n", b"[[registry.mirror]]\n", b"[registry]\n", b'prefix = "', b'location = "', b"= true\n",
    b"= 1979-05-27\n", b"= 1979-02-30T25:61:61Z\n", b"= 0x", b"9" * 5000, b"= " + b"[" * 2000, b"a." * 500, b"*.",
    b"/", b":", b'"""', b"\\u", b"\0", b"\xff", b"= inf\n", b"= 1e999\n", b"{", b"}",
)  # fmt: skip


def read_conf(data: bytes) -> None:
    """Read the file, and ask it where to read a few repositories."""
    rules = RegistriesConf.merged([parse_registries_conf(data, "registries.conf")])
    for registry, repository in _NAMES:
        route = rules.route(registry, repository)
        for stop in (*route.mirrors, route.primary) if route else ():
            assert check_repository(stop.repository)
            assert "/" not in stop.registry


@contextmanager
def opened_certificates(folder: Path) -> Iterator[Reader]:
    """Give a reader of documents whose first line names a file of certs.d and whose rest is in it."""
    settings = RegistrySettings(host="registry.test", tls=TlsSettings(folders=(str(folder),)))
    directory = folder / "registry.test"
    directory.mkdir()

    def read(data: bytes) -> None:
        name, _, content = data.partition(b"\n")
        place = os.path.join(os.fsencode(directory), name.replace(b"/", b"_")[:200] or b"_")  # noqa: PTH118 - bytes
        try:
            with open(place, "wb") as file:  # noqa: PTH123 - bytes
                file.write(content)
        except (ValueError, OSError):
            return  # no file is called so
        try:
            find("registry.test", (str(folder),))
            contexts_of(settings)
        finally:
            os.unlink(place)  # noqa: PTH108 - bytes

    yield read


def mutate_conf(random: Random, data: bytes) -> bytes:
    """Change a file of TOML by its bytes."""
    return mutated_bytes(random, data, _TOKENS)


REGISTRIES = Family(
    name="registries_conf",
    seeds=always(
        b"""unqualified-search-registries = ["docker.io"]
[[registry]]
prefix = "docker.io/library"
location = "mirror.test/hub"
insecure = true
mirror-by-digest-only = false
[[registry.mirror]]
location = "cache.test:5000/x"
pull-from-mirror = "digest-only"
[[registry]]
prefix = "*.b.test"
blocked = true
""",
        b'[[registry]]\nlocation = "quay.test/org"\nmirror = [{location = "a.test"}, {location = "b.test"}]\n',
        b"[registries.search]\nregistries = ['docker.io']\n",
    ),
    opened=pure(read_conf),
    mutate=mutate_conf,
)
CERTIFICATES = Family(
    name="certificates",
    seeds=always(
        b"notes.txt\nnothing",
        b"ca.crt\n-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        b"client.cert\n",
        b"client.key\n",
        b"ca.crt\n",
    ),
    opened=opened_certificates,
    mutate=mutated_bytes,
)
