"""The file of an edge bundle: one line that signs, one line that is signed, and nothing else.

    {"digest":HEX,"format":1,"key":HEX,"signature":HEX,"suite":ID}
    {...the bundle, canonical JSON...}

Nothing of the second line is read before the digest of its bytes, and a trusted key's signature
over it, hold. There is no pickle and nothing packed: a file takes a few times its own size.
"""

import hashlib
import os
import stat
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from clients.scoring.bundle import Bundle, read_bundle
from clients.scoring.form import Form
from clients.scoring.trust import key_fingerprint, require_trusted
from privacy.canonical import canonical_json, parse_canonical
from privacy.errors import InputError, NotVerifiedError, ProtocolError
from privacy.suites import SUITES, Suite
from privacy.suites.suite import Signer

FORMAT: Final = 1
MOST_BYTES: Final = 32 * 2**20
MOST_HEAD_BYTES: Final = 65_536
SIGNING_DOMAIN: Final = "edge-bundle"
_DIGEST_DOMAIN: Final = b"tacit/edge-bundle/v1\0"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedBundle:
    """A bundle that a trusted key signed.

    Attributes:
        bundle: What it says.
        digest: SHA-256, hex, by which logs name it.
        suite: Of the signature.
        signer: Fingerprint of the key that signed it.
    """

    bundle: Bundle
    digest: str
    suite: str
    signer: str


def bundle_bytes(bundle: Bundle, signer: Signer, suite: Suite) -> bytes:
    """The file's bytes.

    Raises:
        ValueError: A number of the bundle is not finite.
    """
    body = canonical_json(bundle.plain())
    digest = _digest(body)
    head = {
        "format": FORMAT,
        "digest": digest.hex(),
        "suite": suite.id,
        "key": signer.public.hex(),
        "signature": signer.sign(SIGNING_DOMAIN, digest).hex(),
    }
    return canonical_json(head) + b"\n" + body + b"\n"


def read_bundle_file(path: Path) -> bytes:
    """The bytes of a file, no more of them than a bundle has.

    Raises:
        InputError: It cannot be read.
        NotVerifiedError: It is larger than any bundle.
    """
    try:
        # what is no file, such as a pipe, must not hold this up
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise InputError(f"{path}: is no file; give a bundle (.tacit).")
        with os.fdopen(descriptor, "rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as failure:
        raise InputError(f"{path}: cannot be read ({failure.strerror}); check the path.") from None
    if len(data) > MOST_BYTES:
        raise NotVerifiedError(f"{path}: is larger than any bundle; give a bundle (.tacit).")
    return data


def open_bundle(data: bytes, trusted: frozenset[str]) -> OpenedBundle:
    """Return what a file says, if a trusted key signed exactly that.

    Args:
        data: The file's bytes.
        trusted: Fingerprints that the user named (`clients.scoring.trust`).

    Raises:
        NotVerifiedError: It is damaged, nobody who is trusted signed it, or its numbers do not
            hold.
    """
    head, body = _parted(data)
    suite, key, signature = _read_head(head, body)
    signer = require_trusted(suite.id, key, trusted)
    missing = suite.missing()
    if missing:
        raise NotVerifiedError(f"it is signed in the suite {suite.id}: {missing}")
    try:
        suite.verify(key, SIGNING_DOMAIN, _digest(body), signature)
    except ProtocolError:
        raise NotVerifiedError("its signature does not hold; fetch the bundle again.") from None
    return OpenedBundle(
        bundle=_read_body(body), digest=_digest(body).hex(), suite=suite.id, signer=signer
    )


def look_at_bundle(data: bytes) -> OpenedBundle:
    """As `open_bundle`, for whoever wants to see what a file says of itself: nobody is trusted.

    The signature must still hold under the key that the file names.

    Raises:
        NotVerifiedError: It is damaged, or its numbers do not hold.
    """
    head, body = _parted(data)
    suite, key, _ = _read_head(head, body)
    return open_bundle(data, frozenset({key_fingerprint(suite.id, key)}))


def require_current(bundle: Bundle, now_s: int) -> None:
    """Return if a bundle may be used at this moment, by this machine's clock.

    Raises:
        NotVerifiedError: It has expired, or the clock is before the bundle was made.
    """
    if bundle.expires_s is not None and now_s >= bundle.expires_s:
        raise NotVerifiedError(
            f"it expired on {clock_text(bundle.expires_s)}, and this machine's clock says "
            f"{clock_text(now_s)}; get a new bundle, or set the clock if it is wrong."
        )
    if now_s < bundle.made_s:
        raise NotVerifiedError(
            f"it was made on {clock_text(bundle.made_s)}, and this machine's clock says "
            f"{clock_text(now_s)}; set the clock."
        )


def require_contract(bundle: Bundle, wanted: str) -> None:
    """Return if the bundle is for this contract.

    Args:
        bundle: Which.
        wanted: The contract's digest or name.

    Raises:
        NotVerifiedError: It is for another.
    """
    contract = bundle.contract
    if wanted not in {contract.name, contract.digest}:
        raise NotVerifiedError(
            f"it is for the contract {contract.name} ({contract.digest[:16]}..), not for "
            f"{wanted:.64}; use the bundle of that contract."
        )


def clock_text(time_s: int) -> str:
    """A moment as people write it, UTC."""
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(_DIGEST_DOMAIN + body).digest()


def _parted(data: bytes) -> tuple[bytes, bytes]:
    end = data.find(b"\n", 0, MOST_HEAD_BYTES)
    if end < 0 or not data.endswith(b"\n") or data.count(b"\n") != 2:  # noqa: PLR2004 - two lines
        raise _damaged()
    return data[:end], data[end + 1 : -1]


def _read_head(head: bytes, body: bytes) -> tuple[Suite, bytes, bytes]:
    try:
        form = Form(parse_canonical(head), "its first line")
        form.whole("format", low=FORMAT, high=FORMAT)
        digest = form.hexadecimal("digest")
        suite = SUITES[form.choice("suite", *SUITES)]
        key = _bytes(form.text("key", longest=2 * suite.signer_bytes), suite.signer_bytes)
        signature = _bytes(
            form.text("signature", longest=2 * suite.signature_bytes), suite.signature_bytes
        )
        form.done()
    except (ProtocolError, NotVerifiedError, ValueError):
        raise _damaged() from None
    if digest != _digest(body).hex():
        raise _damaged()
    return suite, key, signature


def _read_body(body: bytes) -> Bundle:
    try:
        value = parse_canonical(body)
    except ProtocolError:
        raise NotVerifiedError(
            "what was signed is no canonical JSON; export the bundle again."
        ) from None
    return read_bundle(value)


def _bytes(text: str, size: int) -> bytes:
    if len(text) != 2 * size or text != text.lower():
        raise ValueError("expected hexadecimal digits, two a byte")
    return bytes.fromhex(text)


def _damaged() -> NotVerifiedError:
    return NotVerifiedError("it is damaged, or no bundle at all; fetch it again.")
