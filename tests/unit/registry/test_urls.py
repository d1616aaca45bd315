"""URLs: nothing is encoded again, nothing leads where it should not, nothing secret is shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from syncer.errors import ProtocolViolation
from syncer.registry.network.urls import Origin, absolute, links, redact, resolve, with_query

BASE = URL("https://reg.io/v2/a/blobs/uploads/?mount=x", encoded=True)
HOME = Origin("https", "reg.io", 443)


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("/v2/a/blobs/uploads/1?_state=AB%3D%3d+/", "https://reg.io/v2/a/blobs/uploads/1?_state=AB%3D%3d+/"),
        ("1?x=%2F", "https://reg.io/v2/a/blobs/uploads/1?x=%2F"),
        ("https://up.reg.io:8443/x%2fy?sig=a%20b", "https://up.reg.io:8443/x%2fy?sig=a%20b"),
        ("https://reg.io/a/../b//c;d?x=%2f;y=", "https://reg.io/a/../b//c;d?x=%2f;y="),
        ("//other.io/x", "https://other.io/x"),
        ("/a b?c=ä#part", "https://reg.io/a%20b?c=%C3%A4"),
        ("http://reg.io/v2/u?s=1", "https://reg.io/v2/u?s=1"),
        ("http://reg.io:80/v2/u", "https://reg.io/v2/u"),
    ],
)
def test_locations(location: str, expected: str) -> None:
    """A Location is resolved by RFC 3986, byte for byte; plain http to ourselves is put right."""
    assert expected == str(resolve(BASE, location, home=HOME))


@pytest.mark.parametrize(
    "location",
    [
        "http://evil.io/x",
        "http://reg.io:8080/x",
        "ftp://reg.io/x",
        "file:///etc/passwd",
        "https://user:secret@reg.io/x",
        "https://reg.io:99999/",
        "https://[::1/",
        "javascript:alert(1)",
    ],
)
def test_locations_that_are_refused(location: str) -> None:
    """No way leads from https to http, to another scheme, or to a URL with a user name."""
    with pytest.raises(ProtocolViolation) as caught:
        resolve(BASE, location, home=HOME)
    assert "secret" not in str(caught.value)


def test_plain_http_registries_may_stay_plain() -> None:
    """Where the request was plain http already, http is no step down."""
    base = URL("http://localhost:5000/v2/", encoded=True)
    assert str(resolve(base, "http://s3:9000/x", home=Origin("http", "localhost", 5000))) == "http://s3:9000/x"


def test_query_is_appended_and_nothing_else_touched() -> None:
    """Our values are encoded, and those of the registry stay as they are."""
    url = absolute("https://reg.io/u?_state=a%2Fb+c==")
    assert str(with_query(url, digest="sha256:ab")) == "https://reg.io/u?_state=a%2Fb+c==&digest=sha256%3Aab"
    assert str(with_query(absolute("https://reg.io/u"), digest="sha256:ab")) == "https://reg.io/u?digest=sha256%3Aab"


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="#?"), max_size=60))
def test_any_query_survives(query: str) -> None:
    """Whatever printable query a registry sends comes back unchanged, with ours behind it."""
    url = resolve(BASE, f"/u?{query}x", home=HOME)
    assert f"/u?{query}x&digest=d" == with_query(url, digest="d").raw_path_qs


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ('</v2/a/tags/list?n=2&last=b>; rel="next"', ["/v2/a/tags/list?n=2&last=b"]),
        ("</x>;rel=next", ["/x"]),
        ('</x>; title="a, b; rel=next"; rel="prev", </y>; rel="start next"', ["/y"]),
        ("</x>", []),
        ("<x", []),
        ("", []),
    ],
)
def test_links(header: str, expected: list[str]) -> None:
    """Links are read by RFC 8288, and only those with the relation count."""
    assert expected == list(links([header]))


def test_values_that_are_no_unicode_keep_their_bytes() -> None:
    """What a header brought as bytes goes out as the same bytes, and half a surrogate pair is no failure."""
    url = absolute("https://reg.io/u")
    assert str(with_query(url, service="\udcff")) == "https://reg.io/u?service=%FF"
    assert str(with_query(url, service="\ud800")) == "https://reg.io/u?service=%3F"


_ODD = st.text(st.sampled_from("htps:/[]@?#%.\\-_0123456789aZé\udcff\ud800 \t"), max_size=30)


@given(_ODD, st.sampled_from(["", "http://", "https://", "//", "http://[", "https://a:"]))
def test_any_location_is_a_url_or_a_violation(text: str, start: str) -> None:
    """Whatever a Location holds, it is resolved, or refused with a typed error; its origin can be told."""
    for read in (absolute, lambda location: resolve(BASE, location, home=HOME)):
        try:
            url = read(start + text)
        except ProtocolViolation as error:
            assert error.message  # noqa: PT017 - either outcome is right
        else:
            assert Origin.of(url).host
            assert redact(with_query(url, digest="d"))


@given(st.text(max_size=300))
def test_any_link_header_is_survived(header: str) -> None:
    """No Link header raises."""
    assert all(isinstance(target, str) for target in links([header]))


def test_redaction() -> None:
    """Of a URL for people, no user name and no unknown query value is left."""
    shown = redact("https://user:pass@s3.io/b?X-Amz-Signature=canary&_state=canary&digest=sha256:a&last=b&flag#canary")
    assert shown == "https://s3.io/b?X-Amz-Signature=…&_state=…&digest=sha256:a&last=b&flag"


def test_origins() -> None:
    """An origin is scheme, host and port, with the default ports filled in."""
    assert Origin.of(absolute("HTTPS://Reg.io/x")) == Origin.of(absolute("https://reg.io:443"))
    assert Origin.of(absolute("https://reg.io")) != Origin.of(absolute("https://reg.io:444"))
    assert Origin.of(absolute("https://reg.io")) != Origin.of(absolute("http://reg.io"))
    assert str(Origin.of(absolute("https://[::1]:5000/x"))) == "https://[::1]:5000"
