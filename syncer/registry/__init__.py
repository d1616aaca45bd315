"""The one HTTP client: registries that speak the OCI distribution-spec."""

from syncer.registry.catalog import RegistryCatalog
from syncer.registry.client import RegistryClient
from syncer.registry.repository import RegistryRepository
from syncer.registry.settings import RegistrySettings, TimeoutSettings, TlsSettings

__all__ = [
    "RegistryCatalog",
    "RegistryClient",
    "RegistryRepository",
    "RegistrySettings",
    "TimeoutSettings",
    "TlsSettings",
]
