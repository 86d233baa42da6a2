"""Signed notes and the keys that verify them (C2SP signed-note, c2sp.org/signed-note).

    text, ending in a newline
    (a blank line)
    — key name base64(key id || signature)

The text means nothing until a signature of a known key over it is verified; what is signed, and
how, is for `privacy.ledger.checkpoint`.
"""

import hashlib
import re
from base64 import b64decode, b64encode
from dataclasses import dataclass
from urllib.parse import quote

from privacy.errors import InputError, NotVerifiedError
from privacy.signature import holds

ED25519 = 1  # signs the text itself
COSIGNATURE_V1 = 4  # signs the text with a time before it (C2SP tlog-cosignature)
# Room for two thirds of 6,000 cosigners. Their lines take some 140 bytes, or 200 where
# a name has 64 letters.
NOTE_BYTES_MAX = 1024 * 1024
SIGNATURES_MAX = 4096
KEY_ID_BYTES = 4
_PUBLIC_BYTES = 32
_DASH = "\N{EM DASH} "
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key with the name and the one purpose it signs for.

    Attributes:
        name: Not empty, without spaces (any of Unicode) and plus signs; see `key_name`.
        algorithm: `ED25519` or `COSIGNATURE_V1`.
        public: Ed25519 public key, 32 bytes (RFC 8032).
    """

    name: str
    algorithm: int
    public: bytes

    def __post_init__(self) -> None:
        _check_name(self.name)
        if self.algorithm not in {ED25519, COSIGNATURE_V1}:
            raise ValueError(f"no key of type {self.algorithm} is known here, only 1 and 4")
        if len(self.public) != _PUBLIC_BYTES:
            raise ValueError(f"a public key has {_PUBLIC_BYTES} bytes, not {len(self.public)}")

    @property
    def key_id(self) -> bytes:
        """4 bytes that, with the name, tell which key a signature is by; no proof of anything."""
        material = self.name.encode() + b"\n" + bytes([self.algorithm]) + self.public
        return hashlib.sha256(material).digest()[:KEY_ID_BYTES]

    def to_text(self) -> str:
        """Return the key as one line without spaces, `name+key id+key` (a vkey)."""
        return f"{self.name}+{self.key_id.hex()}+{to_base64(bytes([self.algorithm]) + self.public)}"

    @classmethod
    def from_text(cls, text: str) -> "VerifierKey":
        """Read what `to_text` wrote.

        Raises:
            InputError: it is no such text, its id is not that of its key, or its type is unknown.
        """
        try:
            name, _, rest = text.partition("+")
            encoded = from_base64(rest.partition("+")[2])
            key = cls(name, encoded[0] if encoded else 0, encoded[1:])
        except ValueError as error:
            raise InputError(f"{text[:100]!r} is no verifier key: {error}") from None
        if key.to_text() != text:
            raise InputError(f"the id in the verifier key {text[:100]!r} is not that of its key")
        return key

    def verify(self, message: bytes, signature: bytes) -> None:
        """Return if `signature` (64 bytes) over exactly `message` is by this key.

        Raises:
            NotVerifiedError: it is not.
        """
        if not holds(self.public, message, signature):
            raise NotVerifiedError(
                f"a signature of {self.name} does not verify; compare its public key"
            )


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One line below a note.

    Attributes:
        name: Name of the key.
        key_id: `VerifierKey.key_id`, 4 bytes.
        signature: What the key's algorithm makes, at least 1 byte.
    """

    name: str
    key_id: bytes
    signature: bytes

    def __post_init__(self) -> None:
        _check_name(self.name)
        if len(self.key_id) != KEY_ID_BYTES:
            raise ValueError(f"a key's id has {KEY_ID_BYTES} bytes, not {len(self.key_id)}")
        if not self.signature:
            raise ValueError("a signature has at least one byte")

    def is_by(self, key: VerifierKey) -> bool:
        """Whether the line says that it is by `key`; verified is nothing with that."""
        return (self.name, self.key_id) == (key.name, key.key_id)

    def to_line(self) -> str:
        """Return the line with its newline."""
        return f"{_DASH}{self.name} {to_base64(self.key_id + self.signature)}\n"

    @classmethod
    def from_line(cls, line: str) -> "NoteSignature":
        """Read what `to_line` wrote.

        Raises:
            NotVerifiedError: it is no such line.
        """
        try:
            return _parse_line(line)
        except ValueError as error:
            raise NotVerifiedError(f"this is no line of a signature: {error}") from None


@dataclass(frozen=True, slots=True)
class Note:
    """A text and who says to have signed it.

    Attributes:
        text: Ends in a newline; no control characters but newlines.
        signatures: 1 to 4096, in the note's order. None of them is verified by being here.
    """

    text: str
    signatures: tuple[NoteSignature, ...]

    def __post_init__(self) -> None:
        if not self.text.endswith("\n"):
            raise ValueError("a note's text ends in a newline")
        if _CONTROL.search(self.text):
            raise ValueError("a note holds no control characters")
        if not 0 < len(self.signatures) <= SIGNATURES_MAX:
            raise ValueError(
                f"a note has 1 to {SIGNATURES_MAX} signatures, not {len(self.signatures)}"
            )
        size = len(self.to_bytes())
        if size > NOTE_BYTES_MAX:
            raise ValueError(f"a note has at most {NOTE_BYTES_MAX} bytes, not {size}")

    def to_bytes(self) -> bytes:
        """Return the note in UTF-8."""
        return (self.text + "\n" + "".join(each.to_line() for each in self.signatures)).encode()

    def by(self, key: VerifierKey) -> tuple[NoteSignature, ...]:
        """Return the signatures that say to be by `key`, unverified."""
        return tuple(each for each in self.signatures if each.is_by(key))


def parse_note(data: bytes) -> Note:
    """Read a signed note; writing it again gives exactly `data`. Nothing is verified yet.

    Raises:
        NotVerifiedError: `data` is no signed note, or is larger than 1 MiB.
    """
    try:
        return _parse_note(data)
    except ValueError as error:
        raise NotVerifiedError(f"this is no signed note: {error}; ask for it again") from None


def key_name(name: str) -> str:
    """Return the key name of a member; different members have different ones.

    What a key name may not hold (spaces, plus signs), and all that is not ASCII, is
    percent-encoded (RFC 3986, section 2.1), as are slashes and the percent sign itself.

    Raises:
        ValueError: `name` is empty or has no UTF-8.
    """
    if not name:
        raise ValueError("a member's name is not empty")
    return quote(name, safe="")


def to_base64(data: bytes) -> str:
    """Return the usual encoding, with padding and without line breaks (RFC 4648, section 4)."""
    return b64encode(data).decode("ascii")


def from_base64(text: str) -> bytes:
    """Return the bytes that encode to exactly `text` (RFC 4648, section 4).

    Raises:
        ValueError: none do.
    """
    try:
        data = b64decode(text, validate=True)
    except ValueError:
        raise ValueError("what should be base64 is not") from None
    if to_base64(data) != text:
        raise ValueError("what is base64 has another encoding than the usual one")
    return data


def _parse_note(data: bytes) -> Note:
    if len(data) > NOTE_BYTES_MAX:
        raise ValueError(f"it has more than {NOTE_BYTES_MAX} bytes")
    text, blank, lines = data.decode("utf-8").rpartition("\n\n")
    if not blank or not lines.endswith("\n"):
        raise ValueError("no signature follows a blank line")
    each = lines[:-1].split("\n")
    if len(each) > SIGNATURES_MAX:
        raise ValueError(f"it has more than {SIGNATURES_MAX} signatures")
    return Note(text + "\n", tuple(_parse_line(line + "\n") for line in each))


def _parse_line(line: str) -> NoteSignature:
    name, _, encoded = line.removeprefix(_DASH).removesuffix("\n").partition(" ")
    data = from_base64(encoded)
    parsed = NoteSignature(name, data[:KEY_ID_BYTES], data[KEY_ID_BYTES:])
    if parsed.to_line() != line:
        raise ValueError("a signature's line is not as it must be")
    return parsed


def _check_name(name: str) -> None:
    if not name or "+" in name or any(each.isspace() for each in name) or _CONTROL.search(name):
        raise ValueError(f"a key's name is not empty and has no space or plus: {name[:100]!r}")
    name.encode("utf-8")
