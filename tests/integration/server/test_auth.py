"""Logging in: Basic, and Bearer with the server's own token service."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import TYPE_CHECKING

import pytest

from syncer.errors import CredentialsError, UsageError
from syncer.server import Action, AuthMode, Grant, RegistryServer, ServerSettings
from syncer.server.passwords import encode_password
from tests.integration.server.peer import serving
from tests.support import images

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path
    from typing import Any

    from syncer.layout.tree import LayoutTree
    from tests.integration.server.peer import Answer, Peer

PASSWORD = "canary-pass:word"
SAMPLE = images.image()
BLOB = next(iter(SAMPLE.blobs))


def sha(password: str) -> str:
    """Return Apache's {SHA} hash."""
    return "{SHA}" + base64.b64encode(hashlib.sha1(password.encode()).digest()).decode()  # noqa: S324 - that format


def basic(user: str = "ann", password: str = PASSWORD) -> str:
    """Return a Basic Authorization header."""
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def registry(tmp_path: Path, mode: AuthMode, **settings: Any) -> AbstractAsyncContextManager[Peer]:
    """Serve with two users, ann and bob, who have the same password."""
    htpasswd = tmp_path / "htpasswd"
    htpasswd.write_text(f"# users\nann:{sha(PASSWORD)}\n\nbob:{sha(PASSWORD)}\n")
    return serving(tmp_path / "root", auth=mode, htpasswd=htpasswd, **settings)


def challenge(answer: Answer) -> dict[str, str]:
    """Return the parameters of a Bearer challenge."""
    header = answer.headers["WWW-Authenticate"]
    assert header.startswith("Bearer "), header
    return dict(re.findall(r'(\w+)="([^"]*)"', header))


async def token(peer: Peer, *scopes: str, authorization: str = "") -> str:
    """Ask the token service, and return the Authorization header that it gives."""
    query = "&".join(["service=syncer", *(f"scope={scope}" for scope in scopes)])
    headers = {"Authorization": authorization} if authorization else {}
    answer = await peer.ask("GET", f"/token?{query}", **headers)
    assert answer.status == 200, answer.body
    assert answer.document["token"] == answer.document["access_token"]
    return f"Bearer {answer.document['token']}"


async def push(peer: Peer, authorization: str) -> Answer:
    """Try to open an upload."""
    return await peer.ask("POST", "/v2/team/app/blobs/uploads/", Authorization=authorization)


async def test_basic(tmp_path: Path) -> None:
    """Basic: without a login 401 and the challenge, with it everything works."""
    async with registry(tmp_path, AuthMode.BASIC) as peer:
        refused = await peer.ask("GET", "/v2/")
        assert (refused.status, refused.codes) == (401, ["UNAUTHORIZED"])
        assert refused.headers["WWW-Authenticate"] == 'Basic realm="syncer"'
        assert refused.headers["Docker-Distribution-API-Version"] == "registry/2.0"
        assert (await peer.ask("GET", "/v2/", Authorization=basic())).status == 200
        assert (await push(peer, basic())).status == 202
        assert peer.records[-1].user == "ann"


@pytest.mark.parametrize(
    "authorization",
    [
        basic(password="wrong"),
        basic(user="nobody"),
        basic(user=""),
        "Basic not-base64!",
        "Basic " + base64.b64encode(b"no colon").decode(),
        "Basic " + base64.b64encode(b"\xff\xfe:x").decode(),
        "Bearer x",
        "Basic",
    ],
)
async def test_basic_refused(tmp_path: Path, authorization: str) -> None:
    """Basic: a wrong password, an unknown user and a malformed header are all the same 401."""
    async with registry(tmp_path, AuthMode.BASIC) as peer:
        answer = await peer.ask("GET", "/v2/", Authorization=authorization)
        assert (answer.status, answer.codes) == (401, ["UNAUTHORIZED"])


@pytest.mark.parametrize("mode", [AuthMode.BASIC, AuthMode.TOKEN])
async def test_anonymous_pull(tmp_path: Path, mode: AuthMode) -> None:
    """Anonymous pull: reading needs no user, writing does, and the base still shows the challenge."""
    async with registry(tmp_path, mode, anonymous_pull=True) as peer:
        store = await peer.tree.store("team/app", create=True)
        await store.put_manifest(images.index(platforms=()).manifest, "1")
        anonymous = await token(peer, "repository:team/app:pull,push") if mode is AuthMode.TOKEN else "Basic"
        headers = {"Authorization": anonymous} if mode is AuthMode.TOKEN else {}
        assert (await peer.ask("GET", "/v2/")).status == 401
        assert (await peer.ask("GET", "/v2/team/app/manifests/1", **headers)).status == 200
        assert (await peer.ask("GET", "/v2/team/app/tags/list", **headers)).status == 200
        assert (await peer.ask("POST", "/v2/team/app/blobs/uploads/", **headers)).status == 401
        assert (await peer.ask("DELETE", "/v2/team/app/manifests/1", **headers)).status == 401
        assert (await peer.ask("GET", "/v2/_catalog", **headers)).status == 401


async def test_grants(tmp_path: Path) -> None:
    """Basic: a user who has logged in and may not do this is 403 DENIED, which no login would change."""
    grants = (
        Grant(user="ann"),
        Grant(user="*", repositories="public/*", actions=frozenset({Action.PULL})),
    )
    async with registry(tmp_path, AuthMode.BASIC, grants=grants) as peer:
        bob = basic("bob")
        for name in ("public/app", "private/app"):
            store = await peer.tree.store(name, create=True)
            await store.put_manifest(images.index(platforms=()).manifest, "1")
        assert (await peer.ask("GET", "/v2/", Authorization=bob)).status == 200
        assert (await peer.ask("GET", "/v2/public/app/manifests/1", Authorization=bob)).status == 200
        for method, path in (
            ("GET", "/v2/private/app/manifests/1"),
            ("DELETE", "/v2/public/app/manifests/1"),
            ("POST", "/v2/public/app/blobs/uploads/"),
            ("GET", "/v2/_catalog"),
        ):
            denied = await peer.ask(method, path, Authorization=bob)
            assert (denied.status, denied.codes) == (403, ["DENIED"]), path
            assert "WWW-Authenticate" not in denied.headers
        assert (await peer.ask("GET", "/v2/_catalog", Authorization=basic())).status == 200


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/v2/", None),
        ("GET", "/v2/_catalog", "registry:catalog:*"),
        ("GET", "/v2/team/app/tags/list", "repository:team/app:pull"),
        ("HEAD", f"/v2/team/app/blobs/{BLOB}", "repository:team/app:pull"),
        ("GET", f"/v2/team/app/referrers/{BLOB}", "repository:team/app:pull"),
        ("PUT", "/v2/team/app/manifests/1", "repository:team/app:pull,push"),
        ("POST", "/v2/team/app/blobs/uploads/", "repository:team/app:pull,push"),
        ("PATCH", "/v2/team/app/blobs/uploads/0", "repository:team/app:pull,push"),
        ("DELETE", "/v2/team/app/manifests/1", "repository:team/app:delete"),
        (
            "POST",
            f"/v2/team/app/blobs/uploads/?mount={BLOB}&from=base/image",
            "repository:team/app:pull,push repository:base/image:pull",
        ),
    ],
)
async def test_challenges(tmp_path: Path, method: str, path: str, scope: str | None) -> None:
    """Bearer: the challenge names realm, service and the scope that this request needs."""
    async with registry(tmp_path, AuthMode.TOKEN) as peer:
        answer = await peer.ask(method, path)
        assert answer.status == 401
        expected = {"realm": f"{peer.server.url}/token", "service": "syncer"}
        assert challenge(answer) == ({**expected, "scope": scope} if scope else expected)


async def test_token_flow(tmp_path: Path) -> None:
    """Bearer: ask, be challenged, get a token for exactly that, and be served."""
    async with registry(tmp_path, AuthMode.TOKEN) as peer:
        scope = challenge(await peer.ask("POST", "/v2/team/app/blobs/uploads/"))["scope"]
        bearer = await token(peer, scope, authorization=basic())
        assert (await push(peer, bearer)).status == 202
        assert peer.records[-1].user == "ann"
        assert (await peer.ask("GET", "/v2/", Authorization=bearer)).status == 200


async def test_insufficient_scope(tmp_path: Path) -> None:
    """Bearer: a token that lacks a scope its user may have is 401 with insufficient_scope, and the scope."""
    async with registry(tmp_path, AuthMode.TOKEN) as peer:
        bearer = await token(peer, "repository:team/app:pull", authorization=basic())
        answer = await push(peer, bearer)
        assert (answer.status, answer.codes) == (401, ["UNAUTHORIZED"])
        found = challenge(answer)
        assert (found["error"], found["scope"]) == ("insufficient_scope", "repository:team/app:pull,push")


async def test_hopeless_scope(tmp_path: Path) -> None:
    """Bearer: what the user may not do at all is 403; the token service grants what is left of the scope."""
    grants = (Grant(user="bob", actions=frozenset({Action.PULL})),)
    async with registry(tmp_path, AuthMode.TOKEN, grants=grants) as peer:
        bearer = await token(peer, "repository:team/app:pull,push", authorization=basic("bob"))
        assert (await peer.ask("GET", f"/v2/team/app/blobs/{BLOB}", Authorization=bearer)).status == 404
        answer = await push(peer, bearer)
        assert (answer.status, answer.codes, challenge(answer)["error"]) == (403, ["DENIED"], "insufficient_scope")


@pytest.mark.parametrize(
    ("scope", "method", "path"),
    [
        ("registry:catalog:*", "GET", "/v2/_catalog"),
        ("repository:team/app:delete", "DELETE", f"/v2/team/app/blobs/{BLOB}"),
        ("repository:team/app:*", "POST", "/v2/team/app/blobs/uploads/"),
        ("repository:x:pull%20repository:team/app:pull", "GET", f"/v2/team/app/blobs/{BLOB}"),
    ],
)
async def test_scopes(tmp_path: Path, scope: str, method: str, path: str) -> None:
    """Bearer: each action has its scope; ``*`` is all of them, and one parameter may hold several scopes."""
    async with registry(tmp_path, AuthMode.TOKEN) as peer:
        right = await token(peer, scope, authorization=basic())
        wrong = await token(peer, "repository:other:pull,push,delete", authorization=basic())
        assert (await peer.ask(method, path, Authorization=wrong)).status == 401
        assert (await peer.ask(method, path, Authorization=right)).status in (200, 202, 404)


async def test_token_expires(tmp_path: Path) -> None:
    """Bearer: a token is good for its lifetime, and then 401 with invalid_token."""
    now = 1_700_000_000.0
    async with registry(tmp_path, AuthMode.TOKEN, token_lifetime=60, clock=lambda: now) as peer:
        answer = await peer.ask("GET", "/token?scope=repository:team/app:pull,push", Authorization=basic())
        assert (answer.document["expires_in"], answer.document["issued_at"]) == (60, "2023-11-14T22:13:20Z")
        bearer = f"Bearer {answer.document['token']}"
        now += 59
        assert (await push(peer, bearer)).status == 202
        now += 1
        refused = await push(peer, bearer)
        assert (refused.status, challenge(refused)["error"]) == (401, "invalid_token")


@pytest.mark.parametrize("tampered", ["", ".", "x.y", "é.é"])
async def test_forged_tokens(tmp_path: Path, tampered: str) -> None:
    """Bearer: what this server did not sign is 401, as is a Basic login where a token belongs."""
    async with registry(tmp_path, AuthMode.TOKEN) as peer:
        genuine = await token(peer, "repository:team/app:pull,push", authorization=basic())
        payload, _, signature = genuine.removeprefix("Bearer ").partition(".")
        for bad in (f"Bearer {tampered}", f"Bearer {payload[:-2]}xx.{signature}", f"Bearer {payload}.", basic()):
            assert (await push(peer, bad)).status == 401


async def test_tokens_of_another_server(tmp_path: Path) -> None:
    """Bearer: a token survives a restart with the same secret, and no other."""
    for_push = "repository:team/app:pull,push"
    async with registry(tmp_path, AuthMode.TOKEN, token_secret=b"k" * 32) as peer:
        kept = await token(peer, for_push, authorization=basic())
    async with registry(tmp_path, AuthMode.TOKEN, token_secret=b"k" * 32) as peer:
        assert (await push(peer, kept)).status == 202
    async with registry(tmp_path, AuthMode.TOKEN) as peer:
        assert (await push(peer, kept)).status == 401


@pytest.mark.parametrize("authorization", [basic(password="wrong"), "Bearer x", ""])
async def test_token_refused(tmp_path: Path, authorization: str) -> None:
    """The token service answers a wrong login, or none, with 401 and a Basic challenge."""
    async with registry(tmp_path, AuthMode.TOKEN) as peer:
        headers = {"Authorization": authorization} if authorization else {}
        answer = await peer.ask("GET", "/token?scope=repository:a:pull", **headers)
        assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, 'Basic realm="syncer"')
        assert PASSWORD.encode() not in answer.body


async def test_oauth2_password_grant(tmp_path: Path) -> None:
    """The token service takes the OAuth2 form as well; other grants are refused as that specification says."""
    async with registry(tmp_path, AuthMode.TOKEN) as peer:
        form = b"grant_type=password&username=ann&password=canary-pass%3Aword&scope=repository%3Aa%3Apull"
        answer = await peer.ask("POST", "/token", form, Content_Type="application/x-www-form-urlencoded")
        bearer = f"Bearer {answer.document['access_token']}"
        assert (await peer.ask("GET", "/v2/a/tags/list", Authorization=bearer)).status == 404
        other = await peer.ask("POST", "/token", b"grant_type=refresh_token&refresh_token=x")
        assert (other.status, other.document) == (400, {"error": "unsupported_grant_type"})
        many = await peer.ask("POST", "/token", b"&".join(b"a=b" for _ in range(200)))
        assert many.status == 400


async def test_mount_needs_pull_on_the_origin(tmp_path: Path) -> None:
    """A mount from a repository that the token may not read is a plain upload, with ``from`` or without."""
    async with registry(tmp_path, AuthMode.TOKEN) as peer:
        everything = await token(
            peer, "repository:secret:pull,push", "repository:team/app:pull,push", authorization=basic()
        )
        opened = await peer.ask("POST", "/v2/secret/blobs/uploads/", Authorization=everything)
        data = SAMPLE.blobs[BLOB]
        await peer.ask("PUT", f"{opened.location}?digest={BLOB}", data, Authorization=everything)
        narrow = await token(peer, "repository:team/app:pull,push", authorization=basic())
        for query in (f"?mount={BLOB}&from=secret", f"?mount={BLOB}"):
            path = f"/v2/team/app/blobs/uploads/{query}"
            assert (await peer.ask("POST", path, Authorization=narrow)).status == 202
        path = f"/v2/team/app/blobs/uploads/?mount={BLOB}&from=secret"
        assert (await peer.ask("POST", path, Authorization=everything)).status == 201


async def test_realm_setting(tmp_path: Path) -> None:
    """Behind a proxy the realm is what the operator says; a Host header cannot break out of the challenge."""
    async with registry(tmp_path, AuthMode.TOKEN, realm="https://registry.example.com/token") as peer:
        assert challenge(await peer.ask("GET", "/v2/"))["realm"] == "https://registry.example.com/token"
    async with registry(tmp_path, AuthMode.TOKEN) as peer:
        assert challenge(await peer.ask("GET", "/v2/", Host='x",error="y'))["realm"] == "/token"


async def test_no_token_service(tmp_path: Path) -> None:
    """Without tokens there is no token service."""
    async with registry(tmp_path, AuthMode.BASIC) as peer:
        assert (await peer.ask("GET", "/token", Authorization=basic())).status == 404


async def test_password_file_is_read_again(tmp_path: Path) -> None:
    """A password that is changed in the file is the one that counts, and the old one counts no more."""
    async with registry(tmp_path, AuthMode.BASIC) as peer:
        assert (await peer.ask("GET", "/v2/", Authorization=basic())).status == 200
        (tmp_path / "htpasswd").write_text(f"ann:{encode_password('new')}\n")
        assert (await peer.ask("GET", "/v2/", Authorization=basic(password="new"))).status == 200
        assert (await peer.ask("GET", "/v2/", Authorization=basic())).status == 401


async def test_missing_password_file(tree: LayoutTree, tmp_path: Path) -> None:
    """A password file that cannot be read stops the start, with a message that names it."""
    settings = ServerSettings(auth=AuthMode.BASIC, htpasswd=tmp_path / "nowhere")
    with pytest.raises(CredentialsError, match="nowhere"):
        await RegistryServer(tree, settings).__aenter__()


@pytest.mark.parametrize(
    "settings",
    [
        {"auth": AuthMode.BASIC},
        {"htpasswd": "x"},
        {"certificate": "x"},
        {"token_lifetime": 0},
        {"page_size": 0},
    ],
)
def test_contradictions(tree: LayoutTree, settings: dict[str, Any]) -> None:
    """Settings that contradict each other are refused before anything is bound."""
    with pytest.raises(UsageError):
        RegistryServer(tree, ServerSettings(**settings))
