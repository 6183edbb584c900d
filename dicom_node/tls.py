"""DICOM over TLS (PS3.15 B.12, the BCP 195 profile): mutual certificates, renewed in place.

Contexts are made anew when a file changes, so a renewed certificate serves the next connection
without a restart. Files that do not fit together leave the last good context in use.
"""

import socket
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import structlog

from dicom_node.settings import DicomServer, Hl7, Tls

log = structlog.get_logger()

Secure = Callable[[socket.socket], ssl.SSLSocket]
"""Turns a connection into TLS; raises OSError where the peer is not who it should be."""

_Stamp = tuple[tuple[int, int], ...]


class Certificates:
    """The contexts of one settings section, as fresh as its files.

    Parameters
    ----------
    settings
        With all three files.
    make
        Makes a context from them: :func:`server` or :func:`client`.
    """

    def __init__(self, settings: Tls, make: Callable[[Tls], ssl.SSLContext]) -> None:
        self._settings = settings
        self._make = make
        self._stamp = _stamp(settings)
        self._context = make(settings)

    def context(self) -> ssl.SSLContext:
        """Return the context for the next connection."""
        stamp = _stamp(self._settings)
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._context = self._make(self._settings)
                log.info("certificates_renewed")
            except OSError as error:
                log.error("certificates_unusable", error=describe(error))  # noqa: TRY400 - no trace
        return self._context


def server(settings: Tls) -> ssl.SSLContext:
    """Return the context of the TLS port; a client without a trusted certificate is refused.

    Raises
    ------
    OSError
        If a file is absent, or key and certificate do not fit (`ssl.SSLError`).
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    return _filled(context, settings)


def client(settings: Tls) -> ssl.SSLContext:
    """Return the context for calling others; their certificate must be trusted and named.

    Raises
    ------
    OSError
        As `server`.
    """
    return _filled(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), settings)


def caller(settings: Tls, called: DicomServer | Hl7) -> Secure | None:
    """Return what turns a connection to a server into TLS, or None where it is plain."""
    return secured(settings, called.tls_name or called.host) if called.tls else None


def secured(settings: Tls, name: str) -> Secure:
    """Return what turns a connection into TLS with a server whose certificate carries a name.

    Raises
    ------
    OSError
        As `server`.
    """
    certificates = Certificates(settings, client)
    return lambda stream: certificates.context().wrap_socket(stream, server_hostname=name)


def _filled(context: ssl.SSLContext, settings: Tls) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(settings.trusted_certificates)
    context.load_cert_chain(settings.certificate or "", settings.private_key)
    return context


def names(certificate: Mapping[str, Any] | None) -> frozenset[str]:
    """Return the names that a peer's certificate carries: common names, DNS names, addresses."""
    certificate = certificate or {}
    subject = (pair for part in certificate.get("subject", ()) for pair in part)
    common = {value for key, value in subject if key == "commonName"}
    return frozenset(common | {value for _, value in certificate.get("subjectAltName", ())})


def describe(error: OSError) -> str:
    """Return what is wrong with the files, in words."""
    if isinstance(error, ssl.SSLError):
        return (error.reason or "unreadable").replace("_", " ").lower()
    return f"{error.strerror}: {error.filename}"


def _stamp(settings: Tls) -> _Stamp:
    files = (settings.certificate, settings.private_key, settings.trusted_certificates)
    return tuple(_changed(path) for path in files if path is not None)


def _changed(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return (0, 0)
    return (status.st_mtime_ns, status.st_size)
