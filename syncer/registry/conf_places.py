"""Where ``registries.conf`` is looked for; what is in it is read by :mod:`syncer.registry.registries_conf`.

Apart from that because most machines have no such file, or one without rules. Pure: nothing is read here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

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
    return not any(
        b"registry" in line or b"\\" in line or b"registries" in line.split(b".")[0] for line in _but_aliases(lines)
    )


def _but_aliases(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Leave the table of short names out as far as each line is one name and what it stands for, and nothing else.

    What they stand for are hosts that are called registry as often as not.
    """
    are_aliases = False
    for line in lines:
        are_aliases = line == b"[aliases]" or (are_aliases and (not line or _is_alias(line)))
        if not are_aliases:
            yield line


def _is_alias(line: bytes) -> bool:
    """Tell whether ``line`` is ``"name" = "image"``, without escapes."""
    is_quoted = line.startswith(b'"') and line.endswith(b'"') and line.count(b'"') == 4  # noqa: PLR2004 - of two texts
    return is_quoted and b'" = "' in line and b"\\" not in line
