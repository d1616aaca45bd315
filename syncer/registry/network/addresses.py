"""What kind of place an address is, and where a registry may lead; no I/O.

A registry names other hosts: a token service, a storage, an upload's location, the next page. Who
controls the registry controls those names, and must not be able to make Syncer ask things of the
network that it runs in (reference section 2.5, S7). The tables are IANA's special-purpose
registries, and the addresses at which clouds serve metadata; Python's own ``is_private`` differs
between patch releases.
"""

from __future__ import annotations

import re
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

IpAddress = IPv4Address | IPv6Address


class AddressKind(StrEnum):
    """Who can be reached at an address; the values are what messages say."""

    PUBLIC = "a public address"
    #: RFC 1918, shared (RFC 6598), unique local, site local, and for benchmarks, which some VPNs hand out.
    PRIVATE = "a private address"
    LOOPBACK = "a loopback address"
    LINK_LOCAL = "a link-local address"
    METADATA = "an address of a cloud's metadata service"
    UNSPECIFIED = "an unspecified address, which is this machine"
    MULTICAST = "a multicast address"
    RESERVED = "a reserved address"


if TYPE_CHECKING:
    Classifier = Callable[[IpAddress], AddressKind]

#: The most specific first; what no line holds is public.
_IPV4: tuple[tuple[IPv4Network, AddressKind], ...] = tuple(
    (IPv4Network(network), kind)
    for network, kind in (
        ("169.254.169.254", AddressKind.METADATA),  # AWS, GCP, Azure, Oracle, OpenStack and others
        ("169.254.170.2", AddressKind.METADATA),  # AWS ECS
        ("169.254.170.23", AddressKind.METADATA),  # AWS EKS
        ("100.100.100.200", AddressKind.METADATA),  # Alibaba
        ("168.63.129.16", AddressKind.METADATA),  # Azure's platform
        ("192.0.0.192", AddressKind.METADATA),  # Oracle, of old
        ("0.0.0.0/8", AddressKind.UNSPECIFIED),
        ("10.0.0.0/8", AddressKind.PRIVATE),
        ("100.64.0.0/10", AddressKind.PRIVATE),
        ("127.0.0.0/8", AddressKind.LOOPBACK),
        ("169.254.0.0/16", AddressKind.LINK_LOCAL),
        ("172.16.0.0/12", AddressKind.PRIVATE),
        ("192.0.0.0/24", AddressKind.RESERVED),
        ("192.0.2.0/24", AddressKind.RESERVED),
        ("192.88.99.0/24", AddressKind.RESERVED),
        ("192.168.0.0/16", AddressKind.PRIVATE),
        ("198.18.0.0/15", AddressKind.PRIVATE),
        ("198.51.100.0/24", AddressKind.RESERVED),
        ("203.0.113.0/24", AddressKind.RESERVED),
        ("224.0.0.0/4", AddressKind.MULTICAST),
        ("240.0.0.0/4", AddressKind.RESERVED),
    )
)
_IPV6: tuple[tuple[IPv6Network, AddressKind], ...] = tuple(
    (IPv6Network(network), kind)
    for network, kind in (
        ("fd00:ec2::/32", AddressKind.METADATA),  # AWS
        ("fd20:ce::254", AddressKind.METADATA),  # GCP
        ("fd00:c1::a9fe:a9fe", AddressKind.METADATA),  # Oracle
        ("::", AddressKind.UNSPECIFIED),
        ("::1", AddressKind.LOOPBACK),
        ("fc00::/7", AddressKind.PRIVATE),
        ("fec0::/10", AddressKind.PRIVATE),
        ("fe80::/10", AddressKind.LINK_LOCAL),
        ("ff00::/8", AddressKind.MULTICAST),
        ("2001:db8::/32", AddressKind.RESERVED),
        ("3fff::/20", AddressKind.RESERVED),
        ("2001::/23", AddressKind.RESERVED),
        ("2000::/3", AddressKind.PUBLIC),
        ("::/0", AddressKind.RESERVED),
    )
)
#: Prefixes whose addresses stand for an IPv4 address, and the bit from the right at which that starts.
_EMBEDDING: tuple[tuple[IPv6Network, int], ...] = tuple(
    (IPv6Network(network), shift)
    for network, shift in (
        ("::ffff:0:0/96", 0),  # IPv4-mapped
        ("::ffff:0:0:0/96", 0),  # IPv4-translated (RFC 2765)
        ("::/96", 0),  # IPv4-compatible
        ("64:ff9b::/96", 0),  # NAT64
        ("64:ff9b:1::/48", 0),  # NAT64 with a prefix of the network's own
        ("2002::/16", 80),  # 6to4
    )
)
_TEREDO = IPv6Network("2001::/32")
_LOCAL_NAT64 = IPv6Network("64:ff9b:1::/48")
_IPV4_BITS = 0xFFFF_FFFF
#: Hosts that are this machine by their names (RFC 6761 and what distributions write to /etc/hosts).
_LOOPBACK_NAMES = frozenset({"localhost", "localhost.localdomain", "localhost6", "ip6-localhost", "ip6-loopback"})
_METADATA_NAMES = frozenset({"metadata.google.internal", "instance-data.ec2.internal"})
_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*")
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]*|[0-9]+")
#: What a registry of each kind may lead to; who is at any other kind is trusted as much as a private one.
_WITHIN_REACH = {
    AddressKind.PUBLIC: frozenset({AddressKind.PUBLIC}),
    AddressKind.LOOPBACK: frozenset({AddressKind.PUBLIC, AddressKind.PRIVATE, AddressKind.LOOPBACK}),
}
_FROM_PRIVATE = frozenset({AddressKind.PUBLIC, AddressKind.PRIVATE})
#: From the one that gives least reach to the one that gives most.
_BY_REACH = (AddressKind.PUBLIC, AddressKind.PRIVATE, AddressKind.LOOPBACK)


def kind_of(address: IpAddress) -> AddressKind:
    """Return what ``address`` is; one that carries an IPv4 address is what that is."""
    if isinstance(address, IPv4Address):
        return next((kind for network, kind in _IPV4 if address in network), AddressKind.PUBLIC)
    if int(address) > 1 and (carried := _carried(address)) is not None:
        kind = kind_of(carried)
        return AddressKind.PRIVATE if kind is AddressKind.PUBLIC and address in _LOCAL_NAT64 else kind
    return next(kind for network, kind in _IPV6 if address in network)


def _carried(address: IPv6Address) -> IPv4Address | None:
    """Return the IPv4 address that packets to ``address`` end up at."""
    if address in _TEREDO:
        return IPv4Address(~int(address) & _IPV4_BITS)
    for network, shift in _EMBEDDING:
        if address in network:
            return IPv4Address(int(address) >> shift & _IPV4_BITS)
    return None


def literal(host: str) -> IpAddress | None:
    """Return the address that ``host`` (without brackets) spells, or None for a name.

    An address counts in every spelling that some C library takes for one: ``127.1``, ``0x7f.1``,
    ``2130706433``, with a dot at the end.

    Raises:
        ValueError: when it is neither an address nor a name: percent-encoded, with a zone, or a broken address.
    """
    bare = host.removesuffix(".")
    if ":" in bare:
        if "%" in bare:
            raise ValueError("an address with a zone")
        return ip_address(bare)
    if _NAME.fullmatch(bare) is None:
        raise ValueError("not a host name")
    # No top-level domain is a number: what ends in one is an address (WHATWG URL, "ends in a number").
    return _old_ipv4(bare) if _NUMBER.fullmatch(bare.rpartition(".")[2]) else None


def _old_ipv4(text: str) -> IPv4Address:
    """Read an IPv4 address as ``inet_aton`` does: one to four numbers, decimal, octal or hexadecimal."""
    numbers = []
    for part in text.split("."):
        if _NUMBER.fullmatch(part) is None:
            raise ValueError("not an IPv4 address")
        base = 16 if part[:2] in ("0x", "0X") else 8 if part[0] == "0" else 10
        numbers.append(int(part[2:] or "0", 16) if base == 16 else int(part, base))  # noqa: PLR2004 - hexadecimal
    *heads, last = numbers
    if len(heads) > 3 or any(head > 255 for head in heads) or last >= 256 ** (4 - len(heads)):  # noqa: PLR2004 - bytes
        raise ValueError("not an IPv4 address")
    value = last
    for at, head in enumerate(heads):
        value += head << (24 - 8 * at)
    return IPv4Address(value)


def is_oddly_spelled(host: str, address: IpAddress) -> bool:
    """Tell whether ``host`` writes its IPv4 ``address`` in another way than people do: as a disguise."""
    return isinstance(address, IPv4Address) and host.removesuffix(".") != str(address)


def kind_of_name(name: str) -> AddressKind | None:
    """Return what everybody's resolver makes of ``name``, where that is known; None for all other names."""
    bare = name.lower().rstrip(".")
    if bare in _LOOPBACK_NAMES or bare.endswith(".localhost"):
        return AddressKind.LOOPBACK
    return AddressKind.METADATA if bare in _METADATA_NAMES else None


def home_kind(kinds: Iterable[AddressKind]) -> AddressKind:
    """Return what a registry counts as whose name has addresses of these ``kinds``: what gives it least reach.

    Otherwise a registry could widen its reach by adding an address to its name.
    """
    found = set(kinds)
    return next((kind for kind in _BY_REACH if kind in found), AddressKind.PRIVATE)


def is_within_reach(home: AddressKind, there: AddressKind, *, is_trusted: bool = False) -> bool:
    """Tell whether a registry that is ``home`` may lead to a host that is ``there``.

    Link-local, metadata and other special addresses are out of reach for everyone.
    """
    if is_trusted:
        home = AddressKind.LOOPBACK
    return there in _WITHIN_REACH.get(home, _FROM_PRIVATE)


def is_trusted(host: str, port: int, patterns: Iterable[str]) -> bool:
    """Tell whether a pattern names ``host``: by name or address, or as ``*.domain``; each with ``:port`` or not."""
    bare = host.lower().rstrip(".")
    for pattern in patterns:
        name, wanted = split_port(pattern.lower())
        if wanted not in (None, port):
            continue
        if name.startswith("*.") and bare.endswith(name[1:]) and len(bare) >= len(name):
            return True
        if bare == name.rstrip(".") or _is_same_address(bare, name):
            return True
    return False


def _is_same_address(host: str, other: str) -> bool:
    try:
        return ip_address(host) == ip_address(other)
    except ValueError:
        return False


def split_port(text: str) -> tuple[str, int | None]:
    """Split ``host[:port]`` or ``[address][:port]``; an IPv6 address without brackets has no port."""
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":")
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    else:
        host, port = text, ""
    return host, int(port) if port.isascii() and port.isdigit() else None


def is_in_network(address: IpAddress, network: str) -> bool:
    """Tell whether ``address`` is in ``network`` (CIDR); False when that is no network."""
    try:
        return address in ip_network(network, strict=False)
    except ValueError:
        return False
