"""Proxies: which variable counts for what, what NO_PROXY means, and that passwords stay out of sight."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from syncer.errors import RegistryError, SyncerError
from syncer.registry.network.proxies import ProxySettings, proxy_for

CANARY = "canary-password"


def via(environ: dict[str, str], url: str = "https://reg.io/v2/") -> str:
    """Return the proxy for ``url`` in ``environ``; empty for none."""
    return str(proxy_for(ProxySettings.of(environ), URL(url, encoded=True)) or "")


@pytest.mark.parametrize(
    ("environ", "plain", "secure"),
    [
        ({}, "", ""),
        ({"HTTP_PROXY": "http://p:1"}, "http://p:1", ""),
        ({"HTTPS_PROXY": "http://p:1"}, "", "http://p:1"),
        ({"http_proxy": "http://p:1", "https_proxy": "http://q:2"}, "http://p:1", "http://q:2"),
        ({"HTTPS_PROXY": "http://upper:1", "https_proxy": "http://lower:1"}, "", "http://upper:1"),
        ({"HTTPS_PROXY": "", "https_proxy": "http://lower:1"}, "", "http://lower:1"),
        ({"ALL_PROXY": "p:1"}, "http://p:1", "http://p:1"),
        ({"all_proxy": "p:1", "HTTPS_PROXY": "q:2"}, "http://p:1", "http://q:2"),
        ({"HTTP_PROXY": "p:1", "REQUEST_METHOD": "GET"}, "", ""),
        ({"http_proxy": "p:1", "REQUEST_METHOD": "GET"}, "http://p:1", ""),
        ({"HTTP_PROXY": "p:1", "http_proxy": "q:2", "REQUEST_METHOD": "GET"}, "http://q:2", ""),
        ({"HTTPS_PROXY": "p:1", "REQUEST_METHOD": "GET"}, "", "http://p:1"),
        ({"HTTPS_PROXY": "proxy.lan"}, "", "http://proxy.lan"),
        ({"HTTPS_PROXY": " https://proxy.lan/ "}, "", "https://proxy.lan"),
        ({"HTTPS_PROXY": "http://[fd00::1]:3128"}, "", "http://[fd00::1]:3128"),
    ],
)
def test_variables(environ: dict[str, str], plain: str, secure: str) -> None:
    """The variables are read as Go reads them, and ALL_PROXY stands in for those that are not set."""
    assert (plain, secure) == (via(environ, "http://reg.io/"), via(environ))


@pytest.mark.parametrize(
    ("no_proxy", "direct", "proxied"),
    [
        ("*", ["https://reg.io", "https://1.2.3.4"], []),
        (
            "reg.io",
            ["https://reg.io", "https://REG.io:5000", "https://a.reg.io", "https://reg.io."],
            ["https://areg.io"],
        ),
        (".reg.io", ["https://a.reg.io", "https://a.b.reg.io"], ["https://reg.io", "https://areg.io"]),
        ("*.reg.io", ["https://a.reg.io"], ["https://reg.io"]),
        ("reg.io:5000", ["https://reg.io:5000", "https://a.reg.io:5000"], ["https://reg.io", "https://reg.io:5001"]),
        ("reg.io:443", ["https://reg.io"], ["http://reg.io"]),
        ("10.0.0.0/8", ["https://10.1.2.3", "https://10.1.2.3:5000"], ["https://11.0.0.1", "https://reg.io"]),
        ("10.0.0.1", ["https://10.0.0.1", "https://10.0.0.1:5000"], ["https://10.0.0.2"]),
        ("10.0.0.1:5000", ["https://10.0.0.1:5000"], ["https://10.0.0.1"]),
        ("fd00::/8, [fe00::1]:5000", ["https://[fd12::1]", "https://[fe00::1]:5000"], ["https://[fe00::1]"]),
        (" a.io ,b.io c.io,", ["https://a.io", "https://b.io", "https://c.io"], ["https://d.io"]),
        ("", [], ["https://reg.io"]),
        (".", [], ["https://reg.io"]),
    ],
)
def test_exceptions(no_proxy: str, direct: list[str], proxied: list[str]) -> None:
    """NO_PROXY names hosts with what is below them, domains, addresses and networks, each with a port or without."""
    environ = {"ALL_PROXY": "p:1", "NO_PROXY": no_proxy}
    assert dict.fromkeys(direct, "") | dict.fromkeys(proxied, "http://p:1") == {
        url: via(environ, url) for url in direct + proxied
    }


@pytest.mark.parametrize(
    "host", ["localhost:5000", "127.0.0.1", "127.8.8.8", "[::1]:5000", "a.localhost", "LOCALHOST."]
)
def test_this_machine_is_reached_directly(host: str) -> None:
    """No proxy stands between this machine and itself."""
    assert via({"ALL_PROXY": "p:1"}, f"http://{host}/") == ""


def test_credentials() -> None:
    """User name and password are decoded, go to the proxy as Basic in UTF-8, and are shown nowhere."""
    settings = ProxySettings.of({"HTTPS_PROXY": f"http://us%20er:{CANARY}%3A%C3%A4@p:1"})
    proxy = proxy_for(settings, URL("https://reg.io"))
    assert proxy is not None
    assert proxy.authorization == "Basic " + base64.b64encode(f"us er:{CANARY}:ä".encode()).decode()
    assert CANARY not in f"{settings!r}{proxy!r}{proxy}"
    assert proxy.url == URL("http://p:1")


def test_a_user_without_password() -> None:
    """A proxy with a user name alone is shown that, and one without is shown nothing."""
    found = proxy_for(ProxySettings.of({"HTTPS_PROXY": "user@p:1"}), URL("https://reg.io"))
    assert found is not None
    assert base64.b64decode(found.authorization.removeprefix("Basic ")) == b"user:"
    found = proxy_for(ProxySettings.of({"HTTPS_PROXY": "p:1"}), URL("https://reg.io"))
    assert found is not None
    assert found.authorization == ""


@pytest.mark.parametrize("scheme", ["socks4", "socks5", "socks5h", "SOCKS5"])
def test_socks(scheme: str) -> None:
    """A SOCKS proxy is refused by its name, and not taken for an HTTP proxy."""
    with pytest.raises(RegistryError, match=r"socks.*://p:1 is a SOCKS proxy") as caught:
        via({"ALL_PROXY": f"{scheme}://user:{CANARY}@p:1"})
    assert CANARY not in f"{caught.value!r}{caught.value.hint}"
    assert "NO_PROXY" in caught.value.hint


@pytest.mark.parametrize(
    "value",
    [
        f"http://user:{CANARY}/{CANARY}@p:1",
        f"ftp://user:{CANARY}@p:1",
        f"http://user:{CANARY}@",
        f"http://user:{CANARY}@p:port",
        f"http://user:{CANARY}@p:99999",
        f"http://user:{CANARY}@[::1",
        "http://a b:1",
        "http:///",
    ],
)
def test_what_is_no_proxy(value: str) -> None:
    """A value that is no URL of a proxy is refused without a word of it."""
    with pytest.raises(RegistryError, match="not an http or https URL") as caught:
        via({"HTTPS_PROXY": value})
    assert CANARY not in f"{caught.value!r}{caught.value.hint}"


@given(st.text(max_size=40), st.text(st.sampled_from("ab.:*/[]0123456789, "), max_size=30))
def test_any_environment(value: str, exceptions: str) -> None:
    """Whatever the variables hold, there is a proxy, none, or a typed error."""
    try:
        via({"ALL_PROXY": value, "NO_PROXY": exceptions})
        via({"ALL_PROXY": value, "NO_PROXY": exceptions}, "https://10.0.0.1:5000/")
    except SyncerError as error:
        assert error.message  # noqa: PT017 - either outcome is right
