"""Whom a registry's connections trust, and what certificate they show.

What the spec or the command line says comes first. Where it names no file, the directories are read
that Docker, Podman and Skopeo know (containers-certs.d(5)): ``FOLDER/HOST[:PORT]/`` holds
authorities (``*.crt``) and client certificates (``NAME.cert`` with ``NAME.key``).

Everything here reads files: call it from a thread.
"""

from __future__ import annotations

import functools
import ssl
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from syncer.errors import CertificateFileError
from syncer.oci.reference import DOCKER_HUB
from syncer.registry.settings import HUB_API_HOST

if TYPE_CHECKING:
    from collections.abc import Iterator

    from syncer.registry.settings import RegistrySettings

_HINT = "'ca', 'cert' and 'key' name PEM files; the key must fit the certificate and not be encrypted."
_HINT_FOLDER = (
    "Authorities are called *.crt; a client certificate is NAME.cert beside its key NAME.key; all are PEM files."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Certificates:
    """The files that hold for one registry.

    Attributes:
        authorities: PEM files of authorities to trust besides the system's.
        pairs: client certificates, each with its key; the key may be in the certificate's file.
        hint: what to check when one cannot be loaded.
    """

    authorities: tuple[str, ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()
    hint: str = _HINT


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Contexts:
    """How TLS is spoken; None where nothing is configured, for :func:`system_context`.

    Attributes:
        home: to the registry itself.
        foreign: to where it leads. Neither our certificate nor our leniency is meant for those.
        is_shown: True when ``home`` holds a client certificate.
    """

    home: ssl.SSLContext | None = None
    foreign: ssl.SSLContext | None = None
    is_shown: bool = False


def is_plain(settings: RegistrySettings) -> bool:
    """Tell whether nothing is configured, so that no file needs to be read."""
    tls = settings.tls
    return not (tls.ca or tls.cert or tls.insecure or tls.folders)


@functools.cache
def system_context() -> ssl.SSLContext:
    """Return the one context that trusts the system's authorities and nobody else; reads files the first time.

    Loading some 150 authorities takes 20 ms, so it is shared by all registries that nothing else is said of.
    """
    context = ssl.create_default_context()
    context.set_alpn_protocols(("http/1.1",))
    return context


def contexts_of(settings: RegistrySettings) -> Contexts:
    """Load the certificates of a registry; reads files.

    Raises:
        CertificateFileError: when one cannot be read; the message names the file.
    """
    tls, host = settings.tls, settings.host
    if tls.ca or tls.cert:
        files = Certificates(
            authorities=(tls.ca,) if tls.ca else (), pairs=((tls.cert, tls.key or tls.cert),) if tls.cert else ()
        )
    else:
        files = find(host, tls.folders)
    if not (files.authorities or files.pairs or tls.insecure):
        return Contexts()
    foreign = _context(files, host)
    if not (files.pairs or tls.insecure):
        return Contexts(home=foreign, foreign=foreign)
    home = _context(files, host)
    if tls.insecure:
        home.check_hostname = False
        home.verify_mode = ssl.CERT_NONE
    for cert, key in files.pairs:
        with _loading(cert, host, files.hint):
            home.load_cert_chain(cert, key, password=_no_password)
    return Contexts(home=home, foreign=foreign, is_shown=bool(files.pairs))


def find(host: str, folders: tuple[str, ...]) -> Certificates:
    """Return what the first of ``folders`` that has a directory for ``host[:port]`` holds; reads directories.

    Raises:
        CertificateFileError: when a certificate has no key, a key no certificate, or the directory cannot be read.
    """
    names = (host, HUB_API_HOST) if host == DOCKER_HUB else (host,)
    for folder in folders:
        for name in names:
            directory = Path(folder) / name
            try:
                files = sorted(file.name for file in directory.iterdir())
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                if not _exists(directory):
                    # A folder for root alone, as /etc/docker is on many machines.
                    continue
                raise CertificateFileError(
                    f"cannot read the certificates in {directory}: {(error.strerror or str(error)).lower()}",
                    registry=host,
                    hint="Make the directory readable, or name the certificates in the spec ('tls').",
                ) from None
            return _sorted(directory, files, host)
    return Certificates()


def _exists(directory: Path) -> bool:
    try:
        directory.stat()
    except OSError:
        return False
    return True


def _sorted(directory: Path, files: list[str], host: str) -> Certificates:
    """Tell the files of a directory apart by their endings."""
    present = set(files)
    authorities, pairs = [], []
    for name in files:
        stem, _, ending = name.rpartition(".")
        if ending == "crt":
            authorities.append(str(directory / name))
        elif ending == "cert":
            if f"{stem}.key" not in present:
                raise CertificateFileError(
                    f"the client certificate {directory / name} has no key beside it ({stem}.key)",
                    registry=host,
                    hint=_HINT_FOLDER,
                )
            pairs.append((str(directory / name), str(directory / f"{stem}.key")))
        elif ending == "key" and f"{stem}.cert" not in present:
            raise CertificateFileError(
                f"the key {directory / name} has no client certificate beside it ({stem}.cert)",
                registry=host,
                hint=_HINT_FOLDER,
            )
    return Certificates(authorities=tuple(authorities), pairs=tuple(pairs), hint=_HINT_FOLDER)


def _context(files: Certificates, host: str) -> ssl.SSLContext:
    """Return a context that trusts the system's authorities (SSL_CERT_FILE and SSL_CERT_DIR count) and ours."""
    context = ssl.create_default_context()
    for file in files.authorities:
        with _loading(file, host, files.hint):
            context.load_verify_locations(cafile=file)
    return context


@contextmanager
def _loading(file: str, host: str, hint: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        raise CertificateFileError(f"cannot load {file} for {host}: {_said(error)}", registry=host, hint=hint) from None


def _said(error: OSError | ValueError) -> str:
    """Return the reason in words, without numbers of errors and lines of OpenSSL's source."""
    if isinstance(error, ssl.SSLError):
        # OpenSSL has no words for a file without what was looked for in it.
        words = (error.reason or "it holds no certificate, or no key").replace("_", " ").lower()
        return words.replace("or crl found", "found")
    return ((error.strerror if isinstance(error, OSError) else None) or str(error)).lower()


def _no_password() -> str:
    # Without this OpenSSL asks on the terminal for the pass phrase of an encrypted key.
    raise ValueError("the key is encrypted")
