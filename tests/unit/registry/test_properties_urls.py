"""Location and Link by their RFCs: what is resolved, what is refused, and what keeps its bytes."""

from __future__ import annotations

import string
from urllib.parse import urlsplit

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from yarl import URL

from syncer.errors import ProtocolViolation
from syncer.registry.network.urls import Origin, absolute, links, redact, resolve, with_query
from tests.support.searching import searched

_BASE = URL("http://a/b/c/d;p?q", encoded=True)
#: RFC 3986, sections 5.4.1 and 5.4.2, without fragments; "http:g" as section 5.2.2 lets it be for old URLs.
_EXAMPLES = {
    "g": "http://a/b/c/g",
    "./g": "http://a/b/c/g",
    "g/": "http://a/b/c/g/",
    "/g": "http://a/g",
    "//g": "http://g",
    "?y": "http://a/b/c/d;p?y",
    "g?y": "http://a/b/c/g?y",
    "#s": "http://a/b/c/d;p?q",
    "g#s": "http://a/b/c/g",
    "g?y#s": "http://a/b/c/g?y",
    ";x": "http://a/b/c/;x",
    "g;x": "http://a/b/c/g;x",
    "g;x?y#s": "http://a/b/c/g;x?y",
    "": "http://a/b/c/d;p?q",
    ".": "http://a/b/c/",
    "./": "http://a/b/c/",
    "..": "http://a/b/",
    "../": "http://a/b/",
    "../g": "http://a/b/g",
    "../..": "http://a/",
    "../../": "http://a/",
    "../../g": "http://a/g",
    "../../../g": "http://a/g",
    "../../../../g": "http://a/g",
    "/./g": "http://a/g",
    "/../g": "http://a/g",
    "g.": "http://a/b/c/g.",
    ".g": "http://a/b/c/.g",
    "g..": "http://a/b/c/g..",
    "..g": "http://a/b/c/..g",
    "./../g": "http://a/b/g",
    "./g/.": "http://a/b/c/g/",
    "g/./h": "http://a/b/c/g/h",
    "g/../h": "http://a/b/c/h",
    "g;x=1/./y": "http://a/b/c/g;x=1/y",
    "g;x=1/../y": "http://a/b/c/y",
    "g?y/./x": "http://a/b/c/g?y/./x",
    "g?y/../x": "http://a/b/c/g?y/../x",
    "g#s/./x": "http://a/b/c/g",
    "g#s/../x": "http://a/b/c/g",
    "http:g": "http://a/b/c/g",
}


@pytest.mark.parametrize("location", _EXAMPLES)
def test_examples_of_rfc_3986(location: str) -> None:
    """A Location is resolved as section 5.4 of RFC 3986 shows."""
    assert _EXAMPLES[location] == str(resolve(_BASE, location, home=Origin.of(_BASE)))


@pytest.mark.parametrize("location", ["g:h", "mailto:a@b", "data:,x", "http://:80/x", "http://a:0/"])
def test_what_is_no_http_url(location: str) -> None:
    """Another scheme, or no host, is refused."""
    with pytest.raises(ProtocolViolation):
        resolve(_BASE, location, home=Origin.of(_BASE))


_LABELS = st.text(st.sampled_from(string.ascii_lowercase + string.digits), min_size=1, max_size=6)
_HOSTS = st.lists(_LABELS, min_size=1, max_size=3).map(".".join).filter(lambda host: host[-1].isalpha())
_PORTS = st.sampled_from([None, 80, 443, 5000, 65535])
_SEGMENTS = st.lists(
    st.text(
        st.sampled_from(string.ascii_letters + string.digits + "-._~!$&'()*+,;=:@%"), min_size=1, max_size=8
    ).filter(lambda segment: segment not in (".", "..")),
    max_size=4,
)
_QUERIES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="#"), max_size=30)


def written(scheme: str, host: str, port: int | None, path: str, query: str = "") -> str:
    """Write a URL."""
    return f"{scheme}://{host}{'' if port is None else f':{port}'}{path}{'?' if query else ''}{query}"


@searched
@given(_HOSTS, _PORTS, _SEGMENTS, _QUERIES)
@example("reg.io", 443, ["x%2fy", "%3A"], "sig=a%20b%2B+c==&_state=%zz")
def test_an_absolute_location_keeps_every_byte(host: str, port: int | None, segments: list[str], query: str) -> None:
    """What a registry or storage has signed comes back as it was, and our own query behind it."""
    location = written("https", host, port, "/" + "/".join(segments), query)
    url = resolve(
        URL("https://reg.io/v2/a/blobs/uploads/", encoded=True), location, home=Origin("https", "reg.io", 443)
    )
    # The default port is all that may go: it is the same origin, and in no signature (RFC 9110, section 7.2).
    rest = location.partition("://")[2].partition("/")[2]
    assert url.raw_path_qs == f"/{rest}"
    assert Origin.of(url) == Origin("https", host, port or 443)
    assert with_query(url, digest="sha256:ab").raw_path_qs.startswith(f"/{rest}")


@searched
@given(_HOSTS, _PORTS, st.text(st.sampled_from("htps:/[]@?#%.\\-_01abZé \t\r\n\x00"), max_size=25), _HOSTS)
@example("reg.io", None, "http://reg.io:443/x", "reg.io")
@example("reg.io", 5000, "HTTP://REG.IO:5000/x", "reg.io")
@example("reg.io", None, "http:x", "reg.io")
@example("reg.io", None, "\thttp://evil.io", "reg.io")
@example("reg.io", None, "ht\ntp://evil.io", "reg.io")
def test_no_way_leads_down_from_https(host: str, port: int | None, odd: str, other: str) -> None:
    """From a registry over https, every Location is https or refused, without a user name, with an origin."""
    base = URL(written("https", host, port, "/v2/a/"), encoded=True)
    for location in (odd, f"http://{odd}", f"//{odd}", f"http://{other}/{odd}", f"http://{host}:{odd}", f"/{odd}"):
        try:
            url = resolve(base, location, home=Origin.of(base))
        except ProtocolViolation:
            continue
        assert url.scheme == "https"
        assert "@" not in urlsplit(str(url)).netloc
        assert str(url).isascii()
        assert not any(character.isspace() for character in str(url))
        assert Origin.of(url).host


@searched
@given(_HOSTS, _HOSTS, _PORTS, _PORTS, _SEGMENTS)
def test_http_is_put_right_at_home_only(
    host: str, other: str, port: int | None, there: int | None, segments: list[str]
) -> None:
    """A registry that believes it speaks plain HTTP is corrected: on its host, at its port or the default one."""
    assume(port != 80)
    home = Origin("https", host, port or 443)
    base = URL(f"{home}/v2/", encoded=True)
    path = "/" + "/".join(segments)
    location = written("http", other, there, path)
    is_home = other == host and there in (None, 80, home.port)
    if is_home:
        assert f"{home}{path}" == str(resolve(base, location, home=home))
        assert f"{home}{path}" == str(resolve(base, written("HTTP", host.upper(), there, path), home=home))
        return
    with pytest.raises(ProtocolViolation):
        resolve(base, location, home=home)


@searched
@given(_HOSTS, _LABELS, _LABELS, _PORTS, _SEGMENTS)
def test_user_names_are_refused_and_not_repeated(
    host: str, user: str, secret: str, port: int | None, segments: list[str]
) -> None:
    """A URL with a user name in it is refused, and its password is not in the message."""
    secret = f"canary{secret}"
    for location in (f"https://{user}:{secret}@{host}/x", f"//{user}:{secret}@{host}", f"https://{secret}@{host}"):
        with pytest.raises(ProtocolViolation) as caught:
            resolve(URL("https://reg.io/", encoded=True), location, home=Origin("https", "reg.io", 443))
        assert secret not in str(caught.value)
        assert secret not in redact(location)
    with pytest.raises(ProtocolViolation):
        absolute(written("https", f"{user}@{host}", port, "/" + "/".join(segments)))


# ---------------------------------------------------------------------------------- Link (RFC 8288)

_TARGETS = st.text(st.sampled_from(string.ascii_letters + string.digits + "/?&=:;,.%-_~\"'"), min_size=1, max_size=20)
_RELATIONS = st.lists(st.sampled_from(["next", "prev", "NEXT", "last", "nextdoor"]), min_size=1, max_size=3)
_NOTES = st.text(st.sampled_from('ab,;=<>"\\ \trel'), max_size=12)
_BLANKS = st.sampled_from(["", " ", "\t"])


@st.composite
def link_headers(draw: st.DrawFn) -> tuple[list[str], list[str]]:
    """Write Link headers in a layout of the grammar; return them, and the targets whose relation is next."""
    expected: list[str] = []
    written_headers = []
    for _ in range(draw(st.integers(1, 2))):
        values = []
        for _ in range(draw(st.integers(1, 3))):
            target, relations = draw(_TARGETS), draw(_RELATIONS)
            notes = [f'title="{_escaped(draw(_NOTES))}"'] if draw(st.booleans()) else []
            if draw(st.booleans()):
                notes.append("anchorless")
            is_plain = len(relations) == 1 and draw(st.booleans())
            relation = relations[0] if is_plain else f'"{" ".join(relations)}"'
            name = draw(st.sampled_from(["rel", "Rel"]))
            parameters = [*notes, f"{name}{draw(_BLANKS)}={draw(_BLANKS)}{relation}"]
            if draw(st.booleans()):
                parameters.append('rel="next"')  # a second one is not looked at (RFC 8288, section 3.3)
            values.append(f"<{target}>" + "".join(f"{draw(_BLANKS)};{draw(_BLANKS)}{text}" for text in parameters))
            if "next" in [one.lower() for one in relations]:
                expected.append(target)
        written_headers.append(draw(st.sampled_from([",", ", ", " , "])).join(values))
    return written_headers, expected


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


@searched
@given(link_headers())
@example((['</evil>; title="a\\", <b>; rel=\\"next"; rel=prev, </good>; rel=next'], ["/good"]))
def test_links_by_the_grammar(case: tuple[list[str], list[str]]) -> None:
    """In whatever layout links are written, those with the relation are found, and no others."""
    headers, expected = case
    assert expected == list(links(headers))
