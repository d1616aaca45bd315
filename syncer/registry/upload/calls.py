"""The requests that the upload of one blob may take (distribution-spec endpoints 4, 5, 6, 11, 13 and 14)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from syncer.events import RequestKind
from syncer.registry.auth.scopes import Scope
from syncer.registry.call import Call, Departure
from syncer.registry.network.urls import with_query

if TYPE_CHECKING:
    from yarl import URL

    from syncer.oci.descriptor import Descriptor
    from syncer.registry.call import StreamBody
    from syncer.registry.repository import RegistryRepository

_OCTETS = "application/octet-stream"
#: ECR says 201 to a PATCH, others 200 or 204 (reference 3.3, rule 4).
_PATCHED = frozenset({200, 201, 202, 204})
#: What is no 201 counts only with the digest, see :mod:`syncer.registry.upload.proof`.
_COMMITTED = frozenset({200, 201, 204})


class UploadCalls:
    """Makes the calls for one blob and one repository."""

    def __init__(self, repository: RegistryRepository, descriptor: Descriptor) -> None:
        self.repository = repository
        self.client = repository.client
        self.descriptor = descriptor

    def open(self) -> Call:
        """Return the POST that opens a session."""
        return self._post(self._uploads, expected=frozenset({202}))

    def mount(self, source: str) -> Call:
        """Return the POST that asks for a mount from the repository ``source``, once."""
        scopes = self.repository.scopes
        if source != self.repository.repository:
            # The push scope first: some registries look at the first only.
            scopes = (*scopes, Scope.repository(source, "pull"))
        url = with_query(self._uploads, mount=self.descriptor.digest, **{"from": source})
        return self._post(url, expected=frozenset({201, 202}), scopes=scopes, tries=1)

    def single(self, data: bytes) -> Call:
        """Return the POST that carries the whole blob."""
        url = with_query(self._uploads, digest=self.descriptor.digest)
        return self._post(url, expected=frozenset({201, 202}), body=data)

    def put(self, location: URL, body: StreamBody) -> Call:
        """Return the PUT that commits, with the bytes of the blob or with none."""
        url = with_query(location, digest=self.descriptor.digest)
        return self._call(RequestKind.UPLOAD_PUT, "PUT", url, expected=_COMMITTED, body=body)

    def patch(self, location: URL, body: StreamBody, start: int | None) -> Call:
        """Return the PATCH that adds ``body`` at byte ``start``; None for the whole, without a Content-Range."""
        # distribution-spec "Pushing a blob in chunks": no "bytes " before it, and the last byte is included.
        span = {} if start is None else {"Content-Range": f"{start}-{start + body.size - 1}"}
        kind = RequestKind.UPLOAD_PATCH
        return self._call(kind, "PATCH", location, expected=_PATCHED, body=body, headers=span)

    def status(self, location: URL, *, tries: int = 0) -> Call:
        """Return the GET that asks how far a session is."""
        return self._call(RequestKind.UPLOAD_GET, "GET", location, expected=frozenset({200, 204}), tries=tries)

    def delete(self, location: URL) -> Call:
        """Return the DELETE that gives a session up, once; that it is gone is fine."""
        expected = frozenset({200, 202, 204, 404, 416})
        return self._call(RequestKind.UPLOAD_DELETE, "DELETE", location, expected=expected, tries=1)

    def head(self) -> Call:
        """Return the HEAD of the blob."""
        url = self.client.url(f"/v2/{self.repository.repository}/blobs/{self.descriptor.digest}")
        return self._call(RequestKind.BLOB_HEAD, "HEAD", url, expected=frozenset({200}))

    @property
    def asked(self) -> str:
        """The blob, for messages."""
        return self.repository.asked(self.descriptor.digest)

    @property
    def _uploads(self) -> URL:
        return self.client.url(f"/v2/{self.repository.repository}/blobs/uploads/")

    def _post(
        self,
        url: URL,
        *,
        expected: frozenset[int],
        scopes: tuple[Scope, ...] = (),
        tries: int = 0,
        body: bytes | None = None,
    ) -> Call:
        return Call(
            kind=RequestKind.UPLOAD_POST,
            method="POST",
            url=url,
            asked=self.asked,
            scopes=scopes or self.repository.scopes,
            expected=expected,
            headers={} if body is None else {"Content-Type": _OCTETS},
            body=body,
            side=self.repository.side,
            tries=tries,
            is_data=body is not None,
            blob_size=self.descriptor.size,
            departure=Departure(),
        )

    def _call(
        self,
        kind: RequestKind,
        method: str,
        url: URL,
        *,
        expected: frozenset[int],
        tries: int = 0,
        body: StreamBody | None = None,
        headers: dict[str, str] | None = None,
    ) -> Call:
        sent = {} if body is None else {"Content-Type": _OCTETS, "Content-Length": str(body.size)}
        return Call(
            kind=kind,
            method=method,
            url=url,
            asked=self.asked,
            scopes=self.repository.scopes,
            expected=expected,
            headers={**sent, **(headers or {})},
            body=body,
            side=self.repository.side,
            tries=tries,
            is_data=body is not None,
            blob_size=self.descriptor.size,
        )
