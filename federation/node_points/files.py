"""The participant's files, and its certificate."""

import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from federation.certificates import read_certificate
from federation.node_points.point import Point, sentence_of, why_of
from federation.participant import IDENTITY, ROOT, TLS, TLS_KEY, Place
from privacy.errors import TacitError

EXPIRY_WARNED_DAYS: Final = 14
_DAY_S: Final = 86_400
_OTHERS: Final = 0o077
_NAME: Final = "certificate"


def file_points(folder: Path) -> Iterator[Point]:
    """The participant's files and who may read them."""
    missing = [name for name in (IDENTITY, TLS_KEY, TLS, ROOT) if not (folder / name).is_file()]
    if missing:
        yield Point(
            "files",
            "failed",
            f"{folder} lacks {', '.join(missing)}.",
            "Restore the folder from a copy, or be invited again and join anew.",
        )
        return
    for name in (IDENTITY, TLS_KEY):
        path = folder / name
        if os.name == "posix" and path.stat().st_mode & _OTHERS:
            yield Point("files", "failed", f"Others may read {path}.", f"Run chmod 600 {path}.")
            return
    yield Point("files", "ok", f"The keys and certificates in {folder} are there, and private.")


def certificate_point(place: Place, now: datetime) -> Point:
    """Whether the node's certificate holds, and for how long."""
    restore = "Restore the participant folder from a copy, or be invited again and join anew."
    try:
        own = read_certificate((place.folder / TLS).read_bytes(), str(place.folder / TLS))
        root = read_certificate((place.folder / ROOT).read_bytes(), str(place.folder / ROOT))
        own.verify_directly_issued_by(root)
    except OSError as fault:
        why = f"{fault.filename}: {why_of(fault)}."
    except TacitError as fault:
        why = sentence_of(fault)
    except (ValueError, TypeError, InvalidSignature):
        why = "The node's certificate is not of the federation's root."
    else:
        return _term_point(own, now)
    return Point(_NAME, "failed", why, restore)


def _term_point(own: x509.Certificate, now: datetime) -> Point:
    renew = "Start the node, which renews it by itself; past its end, be invited again."
    if now < own.not_valid_before_utc:
        return Point(
            _NAME,
            "failed",
            f"The certificate is valid from {own.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on, and "
            "this machine's clock says it is earlier.",
            "Set the clock right.",
        )
    left_s = (own.not_valid_after_utc - now).total_seconds()
    until = f"{own.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
    if left_s <= 0:
        return Point(_NAME, "failed", f"The certificate expired on {until}.", renew)
    if left_s < EXPIRY_WARNED_DAYS * _DAY_S:
        return Point(_NAME, "warning", f"The certificate expires soon, on {until}.", renew)
    return Point(_NAME, "ok", f"The certificate is valid until {until}.")
