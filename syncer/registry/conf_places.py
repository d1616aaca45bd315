"""Where ``registries.conf`` is looked for; what is in it is read by :mod:`syncer.registry.registries_conf`.

Apart from that because most machines have no such file, or one without rules. Pure: nothing is read here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The variable that names the file, for all tools that read it.
VARIABLE = "CONTAINERS_REGISTRIES_CONF"


@dataclass(frozen=True, kw_only=True, slots=True)
class ConfPlaces:
    """The main files, of which the first that exists is read, and the folders of what is added to it.

    Attributes:
        named: the file asked for by option or variable, which has to exist; None for the usual ones.
        usual: the usual files with the folders whose ``*.conf`` files are read after each of them.
        folders: the folders that are read where no file of ``usual`` exists, or one is named by the variable.
    """

    named: Path | None
    usual: tuple[tuple[Path, tuple[Path, ...]], ...] = ()
    folders: tuple[Path, ...] = ()


def conf_places(environ: Mapping[str, str], home: Path, etc: Path, named: Path | None = None) -> ConfPlaces:
    """Return where the configuration is, as containers-registries.conf.d(5) has it.

    A file ``named`` by option is read alone; one that ``$CONTAINERS_REGISTRIES_CONF`` names takes the
    place of the main file only.
    """
    if named is not None:
        return ConfPlaces(named=named)
    own = Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "containers"
    system = etc / "containers"
    own_folder, system_folder = own / "registries.conf.d", system / "registries.conf.d"
    both = (system_folder, own_folder)
    if variable := environ.get(VARIABLE):
        return ConfPlaces(named=Path(variable), folders=both)
    usual = ((own / "registries.conf", (own_folder,)), (system / "registries.conf", both))
    return ConfPlaces(named=None, usual=usual, folders=both)


def is_without_rules(raw: bytes) -> bool:
    """Tell whether a file has no ``[[registry]]`` table for certain, as those that distributions deliver.

    They are comments mostly, and short names. A key can be spelled with escapes (TOML 1.0 "Keys"), which only
    the parser undoes; and version 1 of the format, which has ``[registries.…]``, is for the parser to refuse.
    """
    lines = [line for line in map(bytes.strip, raw.splitlines()) if not line.startswith(b"#")]
    return not any(b"registry" in line or b"\\" in line or b"registries" in line.split(b".")[0] for line in lines)
