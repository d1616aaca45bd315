"""The imitations watch their clients: whoever breaks a rule is noticed, so that a quiet matrix means something."""

from __future__ import annotations

import aiohttp
import pytest

from tests.support import images
from tests.support.careless import send
from tests.support.personalities.internet import Internet
from tests.support.personalities.public import DockerHub, Ghcr
from tests.support.personalities.registry import Personality

SAMPLE = images.image(layers=1, seed="watched")
DIGEST = str(SAMPLE.digest)
LAYER = str(SAMPLE.descriptors()[1].digest)
ACCEPT = "application/vnd.oci.image.manifest.v1+json"


@pytest.mark.parametrize(
    ("method", "path", "headers", "noticed"),
    [
        ("GET", f"/v2/team/app/manifests/{DIGEST}", {"Accept": ACCEPT}, "without the full Accept list"),
        ("GET", f"/v2/team/app/blobs/{LAYER}", {}, "in any encoding"),
        ("GET", "/v2/team/app/blobs/sha256:abc", {}, "no registry has"),
        ("GET", f"/v2/team/app/blobs/{LAYER}/../x", {}, "no registry has"),
        ("GET", "/v2/", {"Cookie": "sid=1"}, "a cookie"),
        ("GET", "/v2/", {"Authorization": "Basic not-base64!"}, "Basic credentials that are none"),
        ("PUT", "/v2/team/app/manifests/new", {"Content-Type": ACCEPT}, "was put to team/app before"),
    ],
)
async def test_a_bad_request_is_noticed(method: str, path: str, headers: dict[str, str], noticed: str) -> None:
    """Requests that a careless client sends leave a violation behind."""
    internet = Internet()
    registry = Personality(internet)
    registry.repository("team/app").keep(SAMPLE)
    if method == "PUT":
        del registry.repository("team/app").blobs[LAYER]
    async with internet.running():
        body = SAMPLE.manifest.raw if method == "PUT" else None
        await send(method, f"{internet.origin(registry.host)}{path}", headers=headers, body=body)
    assert [noticed in text for text in internet.violations] == [True]


async def test_an_upload_that_goes_on_elsewhere_is_noticed() -> None:
    """A Location that comes back decoded is not the Location that was given."""
    internet = Internet()
    registry = Personality(internet)
    async with internet.running():
        origin = internet.origin(registry.host)
        opened = await send("POST", f"{origin}/v2/team/app/blobs/uploads/", body=b"")
        location = f"{origin}{opened.headers['Location']}".replace("%3d", "=")
        refused = await send("PUT", f"{location}&digest={LAYER}", body=SAMPLE.blobs[SAMPLE.descriptors()[1].digest])
    assert refused.status == 404
    assert [text.startswith("an upload went on at") for text in internet.violations] == [True]


async def test_the_storage_knows_its_urls() -> None:
    """A signed URL works as it was given; with Authorization, or one escape rewritten, it does not."""
    internet = Internet()
    hub = DockerHub(internet)
    assert hub.storage is not None
    async with internet.running():
        url = hub.storage.sign(LAYER, b"bytes")
        plain = {"Accept-Encoding": "identity"}
        assert (await send("GET", url, headers=plain)).status == 200
        assert not internet.violations
        assert (await send("GET", url.replace("%2f", "%2F"), headers=plain)).status == 403
        assert (await send("GET", url, headers={**plain, "Authorization": "Bearer x"})).status == 400
    assert len(internet.violations) == 2


async def test_a_secret_elsewhere_is_noticed() -> None:
    """A password, in plain or as Basic, at a site that it does not belong to is a violation; at its own it is none."""
    internet = Internet()
    hub, other = DockerHub(internet), Ghcr(internet)
    login = aiohttp.encode_basic_auth(hub.login.user, hub.login.password)
    assert hub.tokens is not None
    async with internet.running():
        given = await send("GET", hub.tokens.realm, headers={"Authorization": login})
        assert given.status == 200
        assert not internet.violations
        await send("GET", f"{internet.origin(other.host)}/v2/", headers={"Authorization": login})
        await send("GET", f"{internet.origin(other.host)}/v2/?p={hub.login.password}")
    assert len(internet.violations) == 2


async def test_a_name_that_nobody_has_is_noticed() -> None:
    """Only the sites' names are resolved while the internet runs."""
    internet = Internet()
    async with internet.running():
        with pytest.raises(aiohttp.ClientConnectorError):
            await send("GET", "http://elsewhere.example/")
    assert internet.violations == ["the address of elsewhere.example was asked for"]
