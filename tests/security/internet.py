"""A small internet behind one proxy: registries, token services and storages, each with a secret of its own.

The proxy is a real one that is asked by absolute URLs; it answers for every host itself, and keeps what
each of them was sent apart.
"""

from __future__ import annotations

import base64
import json
from collections import defaultdict
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tests.security.stage import Heard, Warehouse, reply
from tests.support import images

if TYPE_CHECKING:
    from tests.security.stage import Answer

#: Every secret of the world, and the origins that may see it. The proxy's is for the proxy alone.
SECRETS = {
    "canary-source-password": {"auth.test"},
    "canary-source-token": {"source.test", "auth.test"},
    "canary-target-password": {"target.test"},
    "canary-identity": {"oauth.test"},
    "canary-identity-token": {"third.test", "oauth.test"},
    "canary-signature": {"storage.test", "source.test"},
    "canary-state": {"upload.test", "target.test"},
    "canary-proxy-password": set[str](),
    "canary-unused-password": set[str](),
}
GOOD = images.image(seed="good", size=5000)
BAD = images.image(seed="bad", size=5000)
THIRD = images.image(seed="third", size=5000)


def hidden(secret: str) -> list[str]:
    """Return ``secret`` as it is, and as it is in a Basic header of the users of this world."""
    pairs = [base64.b64encode(f"{user}:{secret}".encode()).decode() for user in ("robot", "bot", "u", "p")]
    return [secret, *pairs]


class Internet:
    """Answers for every host."""

    def __init__(self) -> None:
        self.received: dict[str, bytearray] = defaultdict(bytearray)
        self.shown_to_proxy: set[str] = set()
        self.source, self.third, self.target = Warehouse(), Warehouse(), Warehouse()
        self.source.put(GOOD, "v1")
        self.source.put(BAD, "bad")
        self.source.tags.append("denied")
        self.third.put(THIRD, "v1")
        self._refused = {str(layer.digest) for layer in BAD.manifest.layers}

    def __call__(self, heard: Heard) -> Answer:
        """Answer a request to the proxy."""
        url = urlsplit(heard.target)
        host = url.hostname or ""
        self.shown_to_proxy.add(heard.headers.get("Proxy-Authorization", ""))
        headers = {name: value for name, value in heard.headers.items() if name.lower() != "proxy-authorization"}
        self.received[host] += f"{heard.method} {heard.target}\n{headers}\n".encode() + heard.body
        inner = Heard(
            method=heard.method,
            target=f"{url.path}?{url.query}" if url.query else url.path,
            headers=headers,
            body=heard.body,
        )
        answer: Answer = getattr(self, f"_{host.partition('.')[0]}")(inner)
        return answer

    # ------------------------------------------------------------------ the source: tokens, and a storage elsewhere

    def _source(self, heard: Heard) -> Answer:
        if heard.authorization != "Bearer canary-source-token":
            return reply(401, WWW_Authenticate='Bearer realm="http://auth.test/token",service="source"')
        if heard.path.endswith("/manifests/denied"):
            text = {"errors": [{"code": "DENIED", "message": f"{heard.authorization} may not"}]}
            return reply(403, json.dumps(text).encode(), Warning=f'299 - "you sent {heard.authorization}"')
        if "/blobs/" in heard.path and heard.method == "GET":
            digest = heard.path.rpartition("/")[2]
            return reply(307, Location=f"http://storage.test/{digest}?X-Amz-Signature=canary-signature")
        return self.source(heard)

    def _auth(self, heard: Heard) -> Answer:
        if not heard.authorization.startswith("Basic "):
            return reply(401, b'{"details": "who are you?"}')
        return reply(200, b'{"token": "canary-source-token", "expires_in": 300}')

    def _storage(self, heard: Heard) -> Answer:
        digest = heard.path[1:]
        if digest in self._refused:
            words = f"<Error><Message>SignatureDoesNotMatch {heard.target}</Message></Error>"
            return reply(403, words.encode(), WWW_Authenticate='Basic realm="storage"')
        return reply(200, self.source.blobs[digest], Set_Cookie="sid=storage; Domain=test")

    # ------------------------------------------------------------------ a third registry: an identity token

    def _third(self, heard: Heard) -> Answer:
        if heard.authorization != "Bearer canary-identity-token":
            return reply(401, WWW_Authenticate='Bearer realm="http://oauth.test/token",service="third"')
        return self.third(heard)

    def _oauth(self, heard: Heard) -> Answer:
        return reply(200 if b"canary-identity" in heard.body else 401, b'{"access_token": "canary-identity-token"}')

    # ------------------------------------------------------------------ the target: Basic, and uploads elsewhere

    def _target(self, heard: Heard) -> Answer:
        if not heard.authorization.startswith("Basic "):
            return reply(401, WWW_Authenticate='Basic realm="target"')
        if heard.method == "POST":
            return reply(202, Location="http://upload.test/up?_state=canary-state")
        return self.target(heard)

    def _upload(self, heard: Heard) -> Answer:
        digest = heard.query.get("digest", [""])[0]
        self.target.blobs[digest] = heard.body
        return reply(201, Docker_Content_Digest=digest)
