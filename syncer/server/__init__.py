"""An OCI registry over a layout tree: complete, and small enough for an air-gapped site."""

from syncer.server.app import RegistryServer, create_app
from syncer.server.settings import Action, AuthMode, Grant, RequestRecord, ServerSettings

__all__ = [
    "Action",
    "AuthMode",
    "Grant",
    "RegistryServer",
    "RequestRecord",
    "ServerSettings",
    "create_app",
]
