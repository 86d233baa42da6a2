"""A card as a file: canonical JSON of its facts and its page's digest, signed by who made it.

What verifies is what one key said, byte for byte. That the key is somebody's, the reader has to
know: it is this home's own, or given by hand.
"""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

from clients.frozen import Frozen, parse_settings
from federation.home import Home, write_bytes
from federation.model_card.facts import CardFacts, Hex, Signature
from federation.participant import FEDERATION, load_participant
from privacy.canonical import canonical_json, parse_canonical
from privacy.errors import InputError, NotVerifiedError, ProtocolError
from privacy.identity import Identity, verify_signature

SIGNING_DOMAIN: Final = "model-card"
MOST_BYTES: Final = 2**20
_KEY: Final = re.compile("[0-9a-fA-F]{64}")


class SignedCard(Frozen):
    """What the file holds.

    Attributes:
        signed_card: Of this form.
        card: The facts.
        page: SHA-256 of the page that was made from them.
        key: Who signed, an Ed25519 public key.
        signature: Over the canonical bytes of all other keys.
    """

    signed_card: Literal[1]
    card: CardFacts
    page: Hex
    key: Hex
    signature: Signature


def write_card(facts: CardFacts, page: bytes, where: Path, *, identity: Identity) -> Path:
    """Write the page, and its JSON beside it; return the JSON's path.

    Args:
        facts: What the card says.
        page: Made from them.
        where: The page's path, which ends in .html.
        identity: Who says it.

    Raises:
        InputError: A file cannot be written, or the facts are too many for a reader.
    """
    body = {
        "signed_card": 1,
        "card": facts.model_dump(mode="json"),
        "page": hashlib.sha256(page).hexdigest(),
        "key": identity.public.hex(),
    }
    signature = identity.sign(SIGNING_DOMAIN, canonical_json(body))
    data = canonical_json({**body, "signature": signature.hex()}) + b"\n"
    if len(data) > MOST_BYTES:
        raise InputError(
            f"{where}: a card of this model would have {len(data):,} bytes, and {MOST_BYTES:,} is "
            "the most that is read; leave out --data, or choose a --group with fewer levels."
        )
    path = where.with_suffix(".json")
    write_bytes(path, data)
    write_bytes(where, page)
    return path


def read_card(path: Path, known: Mapping[str, str]) -> SignedCard:
    """Return a card if it is, bit for bit, what one of the known keys signed.

    Where its page lies beside it, under the same name, the page is held against it too.

    Args:
        path: The JSON.
        known: Key, 64 hexadecimal digits -> whose it is.

    Raises:
        InputError: There is no such file.
        NotVerifiedError: Something was changed, or nobody who is known signed it.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
    except OSError as failure:
        raise InputError(
            f"{path}: cannot be read ({failure.strerror}); give a file that tacit model card wrote."
        ) from None
    changed = NotVerifiedError(f"{path}: is not as it was signed; ask for the card again.")
    try:
        if len(raw) > MOST_BYTES or not raw.endswith(b"\n"):
            raise changed
        value = parse_canonical(raw[:-1])
        signed = parse_settings(SignedCard, value, str(path))
        if not isinstance(value, dict):
            raise changed
        signature = bytes.fromhex(value.pop("signature"))
        key = bytes.fromhex(signed.key)
        verify_signature(key, SIGNING_DOMAIN, canonical_json(value), signature)
    except (ProtocolError, InputError):
        raise changed from None
    if signed.key not in known:
        raise NotVerifiedError(
            f"{path}: is signed by {signed.key}, whom this home does not know; ask its maker for "
            "the key by another way and give it with --key."
        )
    page = path.with_suffix(".html")
    if page.exists() and hashlib.sha256(_bytes_of(page)).hexdigest() != signed.page:
        raise NotVerifiedError(f"{page}: is not the page of {path.name}; make the card again.")
    return signed


def page_path(folder: Path, out: Path | None) -> Path:
    """Where a card's page goes.

    Args:
        folder: The run's.
        out: A page that ends in .html, a folder, or None: the run's folder.

    Raises:
        InputError: It is neither, or lies in no folder.
    """
    if out is None:
        return folder / "model-card.html"
    if out.is_dir():
        return out / f"{folder.name}.html"
    if out.suffix.lower() != ".html":
        raise InputError(f"--out {out}: is no folder and no name of a page; end it in .html.")
    if not out.parent.is_dir():
        raise InputError(f"--out {out}: there is no folder {out.parent}; make it first.")
    return out


def require_key(text: str) -> str:
    """Return a public key as it was typed, in one spelling.

    Raises:
        InputError: It is none.
    """
    if not _KEY.fullmatch(text):
        raise InputError("--key: a public key is 64 hexadecimal digits; ask the card's maker.")
    return text.lower()


def known_keys(home: Home) -> dict[str, str]:
    """Keys that a home knows: its launcher's, its own in a federation, and the founder's."""
    known: dict[str, str] = {}
    if home.launcher.exists():
        known[Identity.load(home.launcher).public.hex()] = "launcher"
    if (home.participant / FEDERATION).exists():
        place = load_participant(home)
        known[place.founder_key.hex()] = f"founder of {place.federation}"
        known[place.identity().public.hex()] = place.name
    return known


def _bytes_of(page: Path) -> bytes:
    try:
        return page.read_bytes()
    except OSError as failure:
        raise InputError(f"{page}: cannot be read ({failure.strerror}); move it away.") from None
