"""The two ends of the fleet's connections: TLS 1.3, and both show a certificate of one root."""

import ssl
import tempfile
from pathlib import Path

from federation.registry.credentials import Credentials
from privacy.errors import InputError


def server_context(credentials: Credentials) -> ssl.SSLContext:
    """The coordinator's end: no connection without a client certificate of the root.

    Raises:
        InputError: The credentials do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _load(context, credentials)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(credentials: Credentials) -> ssl.SSLContext:
    """A node's end: the root alone is believed, and the host's name must be in the certificate.

    Raises:
        InputError: The credentials do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _load(context, credentials)
    return context


def _load(context: ssl.SSLContext, credentials: Credentials) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # the standard library reads a certificate and its key from files only
    with tempfile.TemporaryDirectory(prefix="tacit-") as folder:
        certificate, key = Path(folder, "certificate.pem"), Path(folder, "key.pem")
        certificate.write_bytes(credentials.certificate)
        key.touch(mode=0o600)
        key.write_bytes(credentials.key)
        try:
            context.load_cert_chain(certificate, key)
            context.load_verify_locations(cadata=credentials.authority.decode("ascii"))
        except (ssl.SSLError, ValueError):
            raise InputError(
                "the certificate, its key and the root certificate do not belong together; give "
                "the three that do"
            ) from None
