"""Addresses: what kind of place each is, in every spelling, and who may lead where."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.registry.network.addresses import (
    AddressKind,
    home_kind,
    is_oddly_spelled,
    is_trusted,
    is_within_reach,
    kind_of,
    kind_of_name,
    literal,
)

KINDS = {
    AddressKind.PUBLIC: [
        "1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.0", "172.15.255.255", "172.32.0.0", "192.169.0.0",
        "169.253.0.1", "128.0.0.1", "223.255.255.255", "2606:4700::1111", "2a00::1", "64:ff9b::808:808",
        "::ffff:8.8.8.8", "2002:808:808::1",
    ],
    AddressKind.PRIVATE: [
        "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "100.127.255.255",
        "198.18.0.1", "fc00::1", "fd12:3456::1", "fec0::1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::",
        "64:ff9b:1::808:808",
    ],
    AddressKind.LOOPBACK: [
        "127.0.0.1", "127.255.255.254", "::1", "::ffff:127.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::",
        "::ffff:0:127.0.0.1", "2001:0:808:808:0:ffff:80ff:fffe", "64:ff9b:1::127.0.0.1",
    ],
    AddressKind.LINK_LOCAL: ["169.254.0.1", "169.254.255.255", "fe80::1", "febf::1", "::ffff:169.254.1.1"],
    AddressKind.METADATA: [
        "169.254.169.254", "169.254.170.2", "169.254.170.23", "100.100.100.200", "168.63.129.16", "192.0.0.192",
        "fd00:ec2::254", "fd20:ce::254", "fd00:c1::a9fe:a9fe", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::",
    ],
    AddressKind.UNSPECIFIED: ["0.0.0.0", "0.1.2.3", "::", "::ffff:0.0.0.0"],
    AddressKind.MULTICAST: ["224.0.0.1", "239.255.255.255", "ff02::1"],
    AddressKind.RESERVED: [
        "192.0.0.1", "192.0.2.1", "192.88.99.1", "198.51.100.1", "203.0.113.1", "240.0.0.1", "255.255.255.255",
        "2001:db8::1", "3fff::1", "2001:10::1", "4000::1", "100::1", "5f00::1", "1::",
    ],
}  # fmt: skip


@pytest.mark.parametrize(("text", "kind"), [(text, kind) for kind, texts in KINDS.items() for text in texts])
def test_kinds(text: str, kind: AddressKind) -> None:
    """Each address is what IANA's registries and the clouds' documentation say, whatever it is wrapped in."""
    assert kind is kind_of(ip_address(text))


@given(st.ip_addresses(v=4))
def test_wrapping_hides_nothing(address: IPv4Address) -> None:
    """An IPv4 address within an IPv6 address is as reachable as by itself."""
    kind = kind_of(address)
    value = int(address)
    assert kind is kind_of(IPv6Address(0xFFFF << 32 | value))
    assert kind is kind_of(IPv6Address(0x64FF9B << 96 | value))
    assert kind is kind_of(IPv6Address(0x2002 << 112 | value << 80))
    assert kind is kind_of(IPv6Address(0x20010000 << 96 | value ^ 0xFFFFFFFF))


@given(st.ip_addresses())
def test_no_disagreement_with_the_library(address: IPv4Address | IPv6Address) -> None:
    """What Python calls loopback, link-local or multicast is never taken for public."""
    if address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified:
        assert kind_of(address) is not AddressKind.PUBLIC


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1.", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("127.0.1", "127.0.0.1"),
        ("0x7f.1", "127.0.0.1"),
        ("0X7F.0x0.0.1", "127.0.0.1"),
        ("0177.0.0.1", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("0x7f000001", "127.0.0.1"),
        ("017700000001", "127.0.0.1"),
        ("169.254.43518", "169.254.169.254"),
        ("0", "0.0.0.0"),
        ("0x", "0.0.0.0"),
        ("8.8.8.8", "8.8.8.8"),
        ("::1", "::1"),
        ("::ffff:127.0.0.1", "::ffff:7f00:1"),
        ("FE80::1", "fe80::1"),
    ],
)
def test_spellings(host: str, address: str) -> None:
    """Every spelling that some C library takes for an address is read as that address."""
    found = literal(host)
    assert address == str(found)
    assert is_oddly_spelled(host, ip_address(address)) is (":" not in host and host.rstrip(".") != address)


@pytest.mark.parametrize(
    "host", ["localhost", "reg.io", "reg.io.", "a-b.c_d.example", "0x7f.example", "1.2.3.4.example"]
)
def test_names(host: str) -> None:
    """A name is not taken for an address."""
    assert literal(host) is None


@pytest.mark.parametrize(
    "host",
    [
        "", ".", "%31%32%37.0.0.1", "127.0.0.1%00", "fe80::1%eth0", "fe80::1%25eth0", "1.2.3.4.5", "256.1.1.1",
        "1.2.3.256", "4294967296", "08.1.1.1", "evil.1", "a..b", "%E4.io", ":::1", "1:2", "a b", "x" * 64, "::1.",
    ],
)  # fmt: skip
def test_neither_a_name_nor_an_address(host: str) -> None:
    """What is neither is refused, and not left to the operating system's imagination."""
    if host == "::1.":
        # A dot at the end is a dot at the end.
        assert str(literal(host)) == "::1"
        return
    with pytest.raises(ValueError, match=r"."):
        literal(host)


@given(st.text(max_size=40))
def test_any_host_is_read_or_refused(host: str) -> None:
    """No host makes the reading raise anything but ValueError."""
    try:
        literal(host)
    except ValueError:
        return


def test_known_names() -> None:
    """Names that mean this machine or a metadata service everywhere are known without asking anybody."""
    for name in ("localhost", "LOCALHOST.", "a.localhost", "ip6-localhost", "localhost.localdomain"):
        assert kind_of_name(name) is AddressKind.LOOPBACK
    assert kind_of_name("metadata.google.internal") is AddressKind.METADATA
    assert kind_of_name("localhost.example") is None
    assert kind_of_name("notlocalhost") is None


REACH = {
    AddressKind.PUBLIC: {AddressKind.PUBLIC},
    AddressKind.PRIVATE: {AddressKind.PUBLIC, AddressKind.PRIVATE},
    AddressKind.LOOPBACK: {AddressKind.PUBLIC, AddressKind.PRIVATE, AddressKind.LOOPBACK},
    AddressKind.LINK_LOCAL: {AddressKind.PUBLIC, AddressKind.PRIVATE},
    AddressKind.RESERVED: {AddressKind.PUBLIC, AddressKind.PRIVATE},
}


@pytest.mark.parametrize("home", REACH)
def test_reach(home: AddressKind) -> None:
    """A registry leads to its own kind of network and to wider ones, and nobody leads to special addresses."""
    assert REACH[home] == {kind for kind in AddressKind if is_within_reach(home, kind)}


def test_trust() -> None:
    """A trusted host may be anywhere but at a special address."""
    found = {kind for kind in AddressKind if is_within_reach(AddressKind.PUBLIC, kind, is_trusted=True)}
    assert found == REACH[AddressKind.LOOPBACK]


def test_kind_of_a_registry() -> None:
    """A registry with several addresses counts as what gives it least reach."""
    assert home_kind([AddressKind.LOOPBACK, AddressKind.PUBLIC, AddressKind.PRIVATE]) is AddressKind.PUBLIC
    assert home_kind([AddressKind.LOOPBACK, AddressKind.PRIVATE]) is AddressKind.PRIVATE
    assert home_kind([AddressKind.LOOPBACK]) is AddressKind.LOOPBACK
    assert home_kind([AddressKind.LINK_LOCAL, AddressKind.LOOPBACK]) is AddressKind.LOOPBACK
    assert home_kind([AddressKind.LINK_LOCAL]) is AddressKind.PRIVATE


@pytest.mark.parametrize(
    ("host", "port", "expected"),
    [
        ("storage.internal", 443, True),
        ("STORAGE.internal.", 443, True),
        ("evil.storage.internal", 443, False),
        ("a.corp.example", 443, True),
        ("a.b.corp.example", 443, True),
        ("corp.example", 443, False),
        (".corp.example", 443, False),
        ("evilcorp.example", 443, False),
        ("s3.lan", 9000, True),
        ("s3.lan", 443, False),
        ("10.0.0.5", 443, True),
        ("10.0.0.6", 443, False),
        ("fd00::5", 9000, True),
        ("fd00::5", 443, False),
        ("fd00::6", 443, True),
    ],
)
def test_trusted_hosts(host: str, port: int, expected: bool) -> None:  # noqa: FBT001 - a table's column
    """A trusted host is one that is named, or below a domain with a star; a port narrows it down."""
    patterns = ["storage.internal", "*.Corp.example", "s3.lan:9000", "10.0.0.5", "[fd00::5]:9000", "fd00:0::6"]
    assert expected is is_trusted(host, port, patterns)
