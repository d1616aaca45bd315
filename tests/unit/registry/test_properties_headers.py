"""What registries say in headers and bodies, searched: times, ranges, scopes, errors, lists, and NO_PROXY."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import re
from email.utils import format_datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from yarl import URL

from syncer.oci import Digest
from syncer.oci.reference import is_tag
from syncer.registry.auth.scopes import Scope, are_covered, merge_scopes, parse_scopes
from syncer.registry.failures import parse_error_body, without_credentials
from syncer.registry.network.addresses import AddressKind, is_within_reach, kind_of, literal
from syncer.registry.network.proxies import ProxySettings, proxy_for
from syncer.registry.tags import listed_digests
from syncer.registry.traffic.retry import retry_after
from syncer.registry.upload.progress import chunk_minimum, confirms, offset_in_status
from tests.support.searching import searched

pytestmark = pytest.mark.untraced

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)

# ---------------------------------------------------------------------------------- Retry-After

_MOMENTS = st.datetimes(dt.datetime(1980, 1, 1), dt.datetime(2100, 1, 1), timezones=st.just(dt.UTC)).map(  # noqa: DTZ001 - hypothesis adds the zone
    lambda moment: moment.replace(microsecond=0)
)


@searched
@given(st.integers(0, 10**11))
def test_seconds_to_wait(seconds: int) -> None:
    """A number of seconds is what it says (RFC 9110, section 10.2.3)."""
    assert retry_after({"Retry-After": str(seconds)}, 0.0) == float(seconds)


@searched
@given(_MOMENTS, st.integers(-(10**6), 10**6), st.integers(-(10**9), 10**9))
def test_moments_to_wait_for(now: dt.datetime, ahead: int, wrong: int) -> None:
    """A date is as far ahead as it is of the answer's own Date, however wrong our clock is; the past is now."""
    then = now + dt.timedelta(seconds=ahead)
    headers = {"Retry-After": format_datetime(then, usegmt=True), "Date": format_datetime(now, usegmt=True)}
    assert retry_after(headers, now.timestamp() + wrong) == max(0.0, float(ahead))
    assert retry_after({"Retry-After": headers["Retry-After"]}, now.timestamp()) == max(0.0, float(ahead))


# ---------------------------------------------------------------------------------- ranges of uploads


@searched
@given(st.integers(2, 10**15))
def test_offsets_of_sessions(count: int) -> None:
    """``0-N`` says that N is the last byte (distribution-spec), and Quay's ``bytes=0-N`` that there are N."""
    assert offset_in_status(f"0-{count - 1}") == count
    assert offset_in_status(f"bytes=0-{count}") == count
    assert confirms(f"0-{count - 1}", count)
    assert not confirms(f"0-{count + 1}", count)


@searched
@given(st.text(st.sampled_from("0123456789-=bytes \u0663"), max_size=24) | st.text(max_size=10))
@example("bytes=0--1")
@example("0--1")
@example("0-0")
@example("0-" + "9" * 30)
def test_any_range_is_an_offset_or_nothing(text: str) -> None:
    """No Range raises, and none gives an offset below zero or beyond what 64 bits hold."""
    offset = offset_in_status(text)
    assert offset is None or 0 <= offset < 1 << 63
    assert isinstance(confirms(text, 5), bool)
    assert 0 <= chunk_minimum(text) < 1 << 63


# ---------------------------------------------------------------------------------- scopes

_ACTIONS = st.frozensets(st.sampled_from(["pull", "push", "delete", "*", "other"]), min_size=1)
_RESOURCES = st.from_regex(r"[a-z0-9]{1,5}(?::[0-9]{1,4})?(?:/[a-z0-9]{1,5}){0,2}", fullmatch=True)
_SCOPES = st.builds(Scope, st.sampled_from(["repository", "registry", "repository(plugin)"]), _RESOURCES, _ACTIONS)


@searched
@given(st.lists(_SCOPES, max_size=5), st.sampled_from([" ", "  ", "\t"]))
def test_scopes_round_trip(scopes: list[Scope], blank: str) -> None:
    """Scopes that are written are read, however many in one value, ports in their names included."""
    assert parse_scopes(blank.join(map(str, scopes))) == tuple(scopes)


@searched
@given(st.lists(_SCOPES, max_size=4), st.lists(_SCOPES, max_size=4))
def test_merged_scopes_ask_for_all_and_no_more(own: list[Scope], named: list[Scope]) -> None:
    """What is merged covers everything that went in, names each resource once, and keeps the first one first."""
    merged = merge_scopes(own, named)
    assert are_covered([*own, *named], merged)
    resources = [scope.resource for scope in merged]
    assert len(set(resources)) == len(resources)
    assert resources[:1] == [scope.resource for scope in [*own, *named]][:1]
    asked = {(scope.resource, action) for scope in [*own, *named] for action in scope.actions}
    assert {(scope.resource, action) for scope in merged for action in scope.actions} == asked


@searched
@given(st.text(max_size=60))
def test_any_scope_is_survived(text: str) -> None:
    """No value raises, and what is read can be written and read again."""
    scopes = parse_scopes(text)
    assert parse_scopes(" ".join(map(str, scopes))) == scopes


# ---------------------------------------------------------------------------------- bodies

_CODES = st.from_regex(r"[A-Z]{2,12}(?:_[A-Z]{2,12})?", fullmatch=True)
_WORDS = st.text(st.sampled_from("abc def.,"), max_size=40)


@searched
@given(st.lists(st.fixed_dictionaries({"code": _CODES, "message": _WORDS, "detail": _JSON}), min_size=1, max_size=5))
def test_codes_of_errors_are_read(errors: list[dict[str, object]]) -> None:
    """Every code of an error body is read, once and in order, whatever the details are."""
    found = parse_error_body(json.dumps({"errors": errors}).encode())
    assert list(found.codes) == list(dict.fromkeys(error["code"] for error in errors))
    assert found.text.isprintable()
    assert len(found.text) <= 300


@searched
@given(_JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=200))
def test_any_error_body_is_survived(body: bytes) -> None:
    """No body raises, and what is shown of it is short and printable."""
    found = parse_error_body(body)
    assert found.text.isprintable()
    assert len(found.text) <= 300


_SECRETS = st.from_regex(r"[A-Za-z0-9+/]{20,60}={0,2}", fullmatch=True)


@searched
@given(_WORDS, st.sampled_from(["Basic", "Bearer", "basic", "BEARER"]), _SECRETS, _WORDS)
def test_repeated_credentials_are_not_shown(before: str, scheme: str, secret: str, after: str) -> None:
    """What stands in an Authorization header is left out of what a registry says, wherever it stands."""
    shown = without_credentials(f"{before} {scheme} {secret} {after}")
    assert secret not in shown
    assert scheme in shown


@searched
@given(st.text(st.sampled_from("abc ABC .,"), max_size=80))
def test_words_are_shown(words: str) -> None:
    """Text without credentials is left alone."""
    assert without_credentials(words) == words
    assert without_credentials("Basic authentication required, or a bearer token") == (
        "Basic authentication required, or a bearer token"
    )


_TAG_NAMES = st.from_regex(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,10}", fullmatch=True)


@searched
@given(st.dictionaries(st.binary(max_size=3).map(Digest.of), st.lists(_TAG_NAMES, max_size=3), max_size=4))
def test_maps_of_tags_are_read(listed: dict[Digest, list[str]]) -> None:
    """A map of manifests gives every tag its digest; a tag with two has none."""
    holders: dict[str, set[Digest]] = {}
    for digest, names in listed.items():
        for name in names:
            holders.setdefault(name, set()).add(digest)
    expected = {name: next(iter(digests)) for name, digests in holders.items() if len(digests) == 1}
    assert expected == listed_digests({"manifest": {digest: {"tag": names} for digest, names in listed.items()}})


@searched
@given(_JSON)
def test_any_map_of_tags_is_survived(value: object) -> None:
    """Whatever stands in the place of the map, what is read are digests, by strings."""
    for document in ({"manifest": value}, {"manifest": {f"sha256:{'a' * 64}": value}}):
        assert all({type(tag), type(of)} == {str, Digest} for tag, of in listed_digests(document).items())


@searched
@given(st.text(max_size=30))
def test_what_counts_as_a_tag_is_safe_in_a_url(text: str) -> None:
    """A listed tag that is taken holds nothing that means something in a URL, a path or a header (S3, S17)."""
    assert not is_tag(text) or (re.fullmatch(r"(?!\.)[\x21-\x7e]+", text) and not set(text) & set("/\\?#%:@&=+,;\"'<>"))


# ---------------------------------------------------------------------------------- NO_PROXY, addresses

_V4 = st.ip_addresses(v=4)
_V6 = st.ip_addresses(v=6)
_PROXY = "http://proxy.test:3128"


def is_direct(host: str, exceptions: str) -> bool:
    """Tell whether a registry at ``host`` is reached without the proxy."""
    settings = ProxySettings.of({"HTTP_PROXY": _PROXY, "HTTPS_PROXY": _PROXY, "NO_PROXY": exceptions})
    return proxy_for(settings, URL(f"https://{host}/v2/", encoded=True)) is None


@searched
@given(_V4, st.integers(0, 32), _V4)
def test_networks_of_no_proxy(base: ipaddress.IPv4Address, prefix: int, address: ipaddress.IPv4Address) -> None:
    """A network in NO_PROXY excepts the addresses in it, and no others but loopback."""
    network = ipaddress.ip_network(f"{base}/{prefix}", strict=False)
    expected = address in network or kind_of(address) is AddressKind.LOOPBACK
    assert is_direct(str(address), f"other.test, {network}") == expected


@searched
@given(
    st.lists(st.sampled_from(["a", "b", "corp", "test"]), min_size=1, max_size=4),
    st.lists(st.sampled_from(["a", "b", "corp", "test"]), min_size=1, max_size=3),
)
def test_domains_of_no_proxy(host_parts: list[str], domain_parts: list[str]) -> None:
    """A name in NO_PROXY excepts itself and what is below it; with a dot in front only what is below it."""
    host, domain = ".".join([*host_parts, "x"]), ".".join([*domain_parts, "x"])
    is_below = host.endswith(f".{domain}")
    assert is_direct(host, domain) == (is_below or host == domain)
    assert is_direct(host, f".{domain}") == is_below
    assert is_direct(host.upper(), domain) == is_direct(host, domain)
    assert is_direct(f"{host}:5000", f"{domain}:5001") is False


@searched
@given(st.text(max_size=30), _V4)
def test_any_no_proxy_is_survived(text: str, address: ipaddress.IPv4Address) -> None:
    """No value of NO_PROXY raises."""
    assert is_direct(str(address), text) in (True, False)
    assert is_direct("registry.test", text) in (True, False)


def _spellings(address: ipaddress.IPv4Address) -> list[str]:
    a, b, c, d = address.packed
    number = int(address)
    return [
        str(address),
        f"{address}.",
        str(number),
        hex(number),
        f"0{number:o}",
        f"{a}.{number & 0xFFFFFF}",
        f"{a}.{b}.{number & 0xFFFF}",
        f"{a:#x}.{b:#x}.{c:#x}.{d:#x}",
        f"0{a:o}.0{b:o}.0{c:o}.0{d:o}",
        f"{a}.{b:#x}.0{c:o}.{d}",
    ]


@searched
@given(_V4)
def test_every_spelling_of_an_address_is_seen_through(address: ipaddress.IPv4Address) -> None:
    """An IPv4 address is read in every way that C libraries read it, and inside of IPv6 it is still itself (S7)."""
    assert all(literal(text) == address for text in _spellings(address))
    carried = [
        ipaddress.IPv6Address(f"::ffff:{address}"),
        ipaddress.IPv6Address(f"64:ff9b::{address}"),
        ipaddress.IPv6Address((0x2002 << 112) | int(address) << 80),
    ]
    kinds = {kind_of(one) for one in carried}
    assert kinds == {kind_of(address)}


@searched
@given(_V4 | _V6)
def test_what_is_not_global_is_not_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    """No address that Python knows to be private, loopback, link-local or multicast counts as public (S7)."""
    is_special = address.is_private or address.is_loopback or address.is_link_local or address.is_multicast
    if is_special or address.is_unspecified or address.is_reserved:
        assert kind_of(address) is not AddressKind.PUBLIC or _is_globally_mapped(address)


def _is_globally_mapped(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Tell whether an IPv6 address stands for a public IPv4 address, or Python's patch releases disagree on it."""
    if isinstance(address, ipaddress.IPv4Address):
        return False
    protocols = ipaddress.ip_network("2001::/23")  # IANA: parts of it are globally reachable
    return address not in ipaddress.ip_network("2000::/3") or address in protocols


@searched
@given(st.sampled_from(list(AddressKind)), st.sampled_from(list(AddressKind)), st.booleans())
def test_nobody_leads_to_metadata(home: AddressKind, there: AddressKind, trusted: bool) -> None:  # noqa: FBT001 - drawn by hypothesis
    """Metadata, link-local and other special addresses are out of reach for all, and trust only widens it."""
    ordinary = {AddressKind.PUBLIC, AddressKind.PRIVATE, AddressKind.LOOPBACK}
    if there not in ordinary:
        assert not is_within_reach(home, there, is_trusted=trusted)
    if is_within_reach(home, there):
        assert is_within_reach(home, there, is_trusted=True)
    if home is AddressKind.PUBLIC and there is not AddressKind.PUBLIC:
        assert not is_within_reach(home, there)
