"""What a failed call to a coordinator means, in one sentence for whoever runs a node."""

import email.utils
import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

import httpx
from cryptography import x509

from federation.registry.credentials import Credentials

CLOCK_S: Final = 240
UNAUTHORIZED: Final = 401
CONFLICT: Final = 409
FAILED_INSIDE: Final = 500
EXPIRED: Final = 10  # OpenSSL: X509_V_ERR_CERT_HAS_EXPIRED
OTHER_HOST: Final = frozenset({62, 64})  # X509_V_ERR_HOSTNAME_MISMATCH, .._IP_ADDRESS_MISMATCH
_CUT: Final = (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)


def sentence_of(
    fault: Exception, fleet: str, credentials: Credentials, *, connected: bool = False
) -> str:
    """Say what went wrong, and what to do.

    Args:
        fault: What a call raised.
        fleet: The address that was called.
        credentials: What it was called with.
        connected: Whether calls with them were answered before.
    """
    own = x509.load_pem_x509_certificates(credentials.certificate)[0]
    expired = own.not_valid_after_utc < datetime.now(UTC)
    if isinstance(fault, httpx.HTTPStatusError) and not expired:
        return _refused(fault.response, fleet)
    causes = list(_causes(fault))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _their_certificate(cause.verify_code, fleet)
    if expired:
        return (
            f"this machine's certificate expired on {own.not_valid_after_utc:%Y-%m-%d %H:%M} UTC; "
            "renew it"
        )
    for cause in causes:
        if sentence := _cause(cause, fleet):
            return sentence
    return _broken(fault, fleet, connected=connected)


def _broken(fault: Exception, fleet: str, *, connected: bool) -> str:
    if isinstance(fault, httpx.TimeoutException):
        return f"the coordinator at {fleet} does not answer in time, trying again"
    if not connected and isinstance(fault, _CUT):
        # in TLS 1.3 a client learns of a refused certificate when it reads, if at all
        return (
            f"the coordinator at {fleet} ended the connection before it answered; this machine's "
            "certificate may be of another federation, trying again"
        )
    return f"the connection to the coordinator at {fleet} broke, trying again"


def _cause(cause: BaseException, fleet: str) -> str | None:
    if isinstance(cause, socket.gaierror):
        return f"the host of {fleet} is not known here; check the address"
    if isinstance(cause, ConnectionRefusedError):
        return f"nobody listens at {fleet}; the coordinator may be down, trying again"
    return None


def _refused(response: httpx.Response, fleet: str) -> str:
    if response.status_code == UNAUTHORIZED:
        away_s = _clock_s(response)
        if abs(away_s) > CLOCK_S:
            return (
                f"this machine's clock is {abs(away_s):.0f} seconds "
                f"{'ahead of' if away_s > 0 else 'behind'} the coordinator's; set it"
            )
        return (
            f"the coordinator at {fleet} does not know this machine as a member, or no longer; "
            "ask its operator"
        )
    if response.status_code == CONFLICT:
        return f"another process is this member's node at {fleet} already; stop one of the two"
    if response.status_code >= FAILED_INSIDE:
        return f"the coordinator at {fleet} failed inside ({response.status_code}), trying again"
    return f"the coordinator at {fleet} refused the call ({response.status_code}), trying again"


def _clock_s(response: httpx.Response) -> float:
    try:
        theirs = email.utils.parsedate_to_datetime(response.headers.get("date", ""))
    except ValueError:
        return 0.0
    return (datetime.now(UTC) - theirs).total_seconds()


def _their_certificate(code: int, fleet: str) -> str:
    if code == EXPIRED:
        return (
            f"the certificate of the coordinator at {fleet} expired; ask its operator to renew it"
        )
    if code in OTHER_HOST:
        return (
            f"the certificate of the coordinator at {fleet} names other hosts; call it by one of "
            "those, or ask its operator"
        )
    return (
        f"{fleet} is not the coordinator of this federation: its certificate is not of the "
        "federation's root; check the address"
    )


def _causes(fault: BaseException | None) -> Iterator[BaseException]:
    while fault is not None:
        yield fault
        fault = fault.__cause__ or fault.__context__
