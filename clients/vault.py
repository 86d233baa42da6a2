"""Bytes at rest: sealed for one place, by a key of their own that a master key wraps.

The form: a first line, the suite's id, the wrapped data key (length and bytes), the nonce, and the
ciphertext with its tag. Each write has a fresh data key from the operating system, so no nonce is
ever used twice under one key, however many writes there are (NIST SP 800-38D, section 8). What is
bound besides: kind, id and class of what is kept, the form's version and the wrapped key, so a file
that is moved to another place does not open there.

Suites: `aes` AES-256-GCM (SP 800-38D), `sm4` SM4-GCM (GB/T 32907, GB/T 17964).
"""

import hashlib
import json
import os
import selectors
import signal
import subprocess
import time
from base64 import b64decode, b64encode
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256, SM4
from cryptography.hazmat.primitives.ciphers.modes import GCM

from privacy.canonical import framed
from privacy.errors import InputError, NotVerifiedError
from privacy.json_value import json_value
from privacy.randomness import Entropy
from privacy.whole_file import write_first

Suite = Literal["aes", "sm4"]
KEY_FILE: Final = "vault.key"
MAGIC: Final = b"tacit vault 1\n"
KEY_BYTES: Final = 32
SEALED: Final = ("L3", "L4")
"""Classes of what is sealed at rest."""
_SUITES: Final[tuple[Suite, ...]] = ("aes", "sm4")
_KEY_BYTES_OF: Final = {"aes": 32, "sm4": 16}
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_LENGTH_BYTES: Final = 2
_WRAPPED_BYTES_MAX: Final = 4096
_SALT: Final = b"tacit/vault/passphrase/v1\0"
_SCRYPT_COST: Final = 2**15
_SCRYPT_BYTES: Final = 64 * 2**20
_ANSWER_BYTES_MAX: Final = 16384
_SILENT: Final = "the key service does not answer; run its command by hand to see why"
_PROBE: Final = hashlib.sha256(b"tacit/vault/probe/v1").digest()
_DAMAGED: Final = "what is kept here is damaged, belongs elsewhere, or was sealed with another key"


class KeyService(Protocol):
    """Who holds the master key: a file, a passphrase, or a service that never shows it."""

    def wrap(self, key: bytes) -> bytes:
        """Return a data key as only `unwrap` of the same master key reads it.

        Raises:
            InputError: It cannot be done now.
        """
        ...

    def unwrap(self, wrapped: bytes) -> bytes:
        """Return the data key.

        Raises:
            NotVerifiedError: It was wrapped by another master key, or was changed.
            InputError: It cannot be done now.
        """
        ...


@dataclass(frozen=True, slots=True)
class Label:
    """What sealed bytes are, and where they belong.

    Attributes:
        kind: Such as `session`.
        id: Its name there.
        data_class: Of the highest column behind it, such as `L3`.
    """

    kind: str
    id: str
    data_class: str


@dataclass(frozen=True, slots=True)
class MasterKey:
    """A `KeyService` in this process. The key cannot be printed.

    Attributes:
        key: 32 bytes.
        entropy: Makes nonces; 96 random bits each, far below 2^32 wraps under one key.
    """

    key: bytes = field(repr=False)
    entropy: Entropy = field(repr=False)

    def wrap(self, key: bytes) -> bytes:
        """See `KeyService`."""
        nonce = self.entropy(_NONCE_BYTES)
        return nonce + _encrypt("aes", self.key, nonce, b"tacit/vault/key/v1", key)

    def unwrap(self, wrapped: bytes) -> bytes:
        """See `KeyService`."""
        nonce, rest = wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:]
        return _decrypt("aes", self.key, nonce, b"tacit/vault/key/v1", rest)


@dataclass(frozen=True, slots=True)
class CommandKey:
    """A `KeyService` behind a command: JSON on its standard input, JSON on its standard output.

    Asked `{"act": "wrap" | "unwrap", "data": BASE64}`, it answers `{"data": BASE64}` and ends with
    0. What it writes to standard error is not shown. It is asked at most for 4 KiB, runs without a
    shell, and is ended with all that it started once it answered, said too much, or took too long.

    Attributes:
        command: The program and its arguments; no shell reads them.
        timeout_s: For one answer.
    """

    command: Sequence[str]
    timeout_s: float = 10.0

    def wrap(self, key: bytes) -> bytes:
        """See `KeyService`."""
        return self._asked("wrap", key)

    def unwrap(self, wrapped: bytes) -> bytes:
        """See `KeyService`.

        A service that is down for a moment has not another key: before what it does not unwrap
        counts as damaged, it has to unwrap what it wraps now.
        """
        try:
            return self._asked("unwrap", wrapped)
        except NotVerifiedError:
            try:
                alive = self._asked("unwrap", self._asked("wrap", _PROBE)) == _PROBE
            except NotVerifiedError:
                alive = False
            if not alive:
                raise InputError(
                    "the key service does not unwrap what it wrapped; look at its log"
                ) from None
            return self._asked("unwrap", wrapped)

    def _asked(self, act: str, data: bytes) -> bytes:
        asked = json.dumps({"act": act, "data": b64encode(data).decode()}).encode()
        code, said = _run(list(self.command), asked, self.timeout_s)
        if code != 0 and act == "unwrap":
            raise NotVerifiedError("the key service does not unwrap this key")
        try:
            answer = b64decode(json_value(said if code == 0 else b"")["data"], validate=True)
        except (ValueError, KeyError, TypeError):
            raise InputError("the key service gives no usable answer; look at its log") from None
        if not 0 < len(answer) <= _WRAPPED_BYTES_MAX:
            raise InputError("the key service gives no usable answer; look at its log")
        return answer


def _run(command: list[str], asked: bytes, timeout_s: float) -> tuple[int, bytes]:
    """Exit code and output of a command, which ends in time and says no more than it may."""
    ends_s = time.monotonic() + timeout_s
    try:
        process = subprocess.Popen(  # noqa: S603 - the node's own people name the program
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
    except OSError:
        raise InputError(_SILENT) from None
    assert process.stdin is not None  # noqa: S101 - it is a pipe
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    said = bytearray()
    try:
        with suppress(BrokenPipeError), process.stdin:
            process.stdin.write(asked)  # far less than a pipe holds
        with selectors.DefaultSelector() as ready, process.stdout:
            ready.register(process.stdout, selectors.EVENT_READ)
            while len(said) <= _ANSWER_BYTES_MAX:
                if not ready.select(ends_s - time.monotonic()):
                    raise InputError(_SILENT)
                more = os.read(process.stdout.fileno(), 65536)
                if not more:
                    break
                said += more
            else:
                raise InputError("the key service says more than an answer; look at its log")
        return process.wait(max(ends_s - time.monotonic(), 0.1)), bytes(said)
    except subprocess.TimeoutExpired:
        raise InputError(_SILENT) from None
    finally:
        # what it started ends with it
        with suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def seal(
    data: bytes | memoryview, label: Label, keys: KeyService, *, entropy: Entropy,
    suite: Suite = "aes",
) -> bytes:  # fmt: skip
    """Seal bytes for one place; only whoever can ask `keys` reads them again, and only there.

    Raises:
        InputError: The key cannot be wrapped now.
    """
    key, nonce = entropy(_KEY_BYTES_OF[suite]), entropy(_NONCE_BYTES)
    wrapped = keys.wrap(key)
    head = MAGIC + suite.encode().ljust(4) + len(wrapped).to_bytes(_LENGTH_BYTES, "big") + wrapped
    return head + nonce + _encrypt(suite, key, nonce, _bound(label, head), data)


def unseal(sealed: bytes, label: Label, keys: KeyService) -> bytes:
    """Read what `seal` wrote for this label.

    Raises:
        NotVerifiedError: It was changed, cut off, moved, or sealed under another master key.
        InputError: The key cannot be unwrapped now.
    """
    suite, wrapped, start = _head(sealed)
    key = keys.unwrap(wrapped)
    if len(key) != _KEY_BYTES_OF[suite]:
        raise NotVerifiedError(_DAMAGED)
    head, nonce = sealed[:start], sealed[start : start + _NONCE_BYTES]
    return _decrypt(suite, key, nonce, _bound(label, head), sealed[start + _NONCE_BYTES :])


def is_sealed(data: bytes) -> bool:
    """Whether bytes begin as sealed ones do; `unseal` says whether they are."""
    return data.startswith(MAGIC)


def is_sealed_file(path: Path) -> bool:
    """Whether a file begins as sealed ones do; one that is not there does not.

    Raises:
        InputError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            return is_sealed(file.read(len(MAGIC)))
    except FileNotFoundError:
        return False
    except OSError as failure:
        raise InputError(f"{path}: cannot be read ({failure.strerror}).") from None


def rewrap(
    sealed: bytes, label: Label, old: KeyService, new: KeyService, *, entropy: Entropy
) -> bytes:
    """Seal again under another master key; the data key is a new one too.

    Raises:
        NotVerifiedError: As `unseal`.
        InputError: A key service cannot be asked now.
    """
    suite, _, _ = _head(sealed)
    return seal(unseal(sealed, label, old), label, new, entropy=entropy, suite=suite)


@dataclass(frozen=True, slots=True)
class Vault:
    """What a node seals with.

    Attributes:
        keys: Who holds the master key.
        data_class: Of the highest column behind what is kept.
        entropy: Makes data keys and nonces.
    """

    keys: KeyService
    data_class: str
    entropy: Entropy = field(repr=False)

    def seal(self, kind: str, name: str, data: bytes | memoryview) -> bytes:
        """See `seal`."""
        label = Label(kind, name, self.data_class)
        return seal(data, label, self.keys, entropy=self.entropy)

    def unseal(self, kind: str, name: str, data: bytes) -> bytes:
        """See `unseal`; what an earlier version wrote as it was is returned as it is."""
        if not is_sealed(data):
            return data
        return unseal(data, Label(kind, name, self.data_class), self.keys)


@dataclass(slots=True)
class KnownVault:
    """A vault for files whose class only they know: they are sealed again for the class they had.

    Attributes:
        vaults: One for each class that is sealed.
    """

    vaults: Sequence[Vault]
    _found: Vault | None = None

    def seal(self, kind: str, name: str, data: bytes | memoryview) -> bytes:
        """See `seal`; as it is where the last that was read lay there as it is."""
        return bytes(data) if self._found is None else self._found.seal(kind, name, data)

    def unseal(self, kind: str, name: str, data: bytes) -> bytes:
        """See `unseal`."""
        self._found = None
        if not is_sealed(data):
            return data
        for vault in self.vaults:
            try:
                opened = vault.unseal(kind, name, data)
            except NotVerifiedError:
                continue
            self._found = vault
            return opened
        raise NotVerifiedError(_DAMAGED)


def passphrase_key(passphrase: str, salt: bytes) -> bytes:
    """Return a master key, 32 bytes, by scrypt (RFC 7914, N = 2^15, r = 8, p = 1).

    Args:
        passphrase: At least 12 characters.
        salt: Of this one place, drawn when the passphrase was chosen: equal passphrases of two
            nodes give unlike keys, and no table that was made before fits.

    Raises:
        InputError: The passphrase is too short to resist guessing.
    """
    if len(passphrase) < 12:  # noqa: PLR2004 - said in the sentence
        raise InputError("the passphrase is shorter than 12 characters; choose a longer one")
    return hashlib.scrypt(
        passphrase.encode(), salt=_SALT + salt, n=_SCRYPT_COST, r=8, p=1,
        maxmem=_SCRYPT_BYTES, dklen=KEY_BYTES,
    )  # fmt: skip


def file_key(path: Path, entropy: Entropy) -> bytes:
    """Return the master key in a file, made the first time and readable by its owner alone.

    Raises:
        InputError: It cannot be read or written, is no key, or others may read it.
    """
    try:
        if not path.exists():
            write_first(path, entropy(KEY_BYTES))
        if os.name == "posix" and path.stat().st_mode & 0o077:
            raise InputError(f"others may read the key {path}; run chmod 600 {path}")
        key = path.read_bytes()
    except OSError as failure:
        raise InputError(f"{path}: cannot be used ({failure.strerror}).") from None
    if len(key) != KEY_BYTES:
        raise InputError(f"{path}: is no key of {KEY_BYTES} bytes; restore it from a copy.")
    return key


def _head(sealed: bytes) -> tuple[Suite, bytes, int]:
    at = len(MAGIC)
    name = sealed[at : at + 4].rstrip()
    suite = next((one for one in _SUITES if one.encode() == name), None)
    length = int.from_bytes(sealed[at + 4 : at + 4 + _LENGTH_BYTES], "big")
    start = at + 4 + _LENGTH_BYTES + length
    whole = len(sealed) >= start + _NONCE_BYTES + _TAG_BYTES
    if not is_sealed(sealed) or suite is None or not whole or length > _WRAPPED_BYTES_MAX:
        raise NotVerifiedError(_DAMAGED)
    return suite, sealed[start - length : start], start


def _bound(label: Label, head: bytes) -> bytes:
    return framed(head, label.kind.encode(), label.id.encode(), label.data_class.encode())


def _algorithm(suite: Suite, key: bytes) -> AES256 | SM4:
    return AES256(key) if suite == "aes" else SM4(key)


def _encrypt(
    suite: Suite, key: bytes, nonce: bytes, bound: bytes, data: bytes | memoryview
) -> bytes:
    cipher = Cipher(_algorithm(suite, key), GCM(nonce)).encryptor()
    cipher.authenticate_additional_data(bound)
    return cipher.update(data) + cipher.finalize() + cipher.tag


def _decrypt(suite: Suite, key: bytes, nonce: bytes, bound: bytes, data: bytes) -> bytes:
    if len(nonce) != _NONCE_BYTES or len(data) < _TAG_BYTES:
        raise NotVerifiedError(_DAMAGED)
    cipher = Cipher(_algorithm(suite, key), GCM(nonce, data[-_TAG_BYTES:])).decryptor()
    cipher.authenticate_additional_data(bound)
    try:
        return cipher.update(data[:-_TAG_BYTES]) + cipher.finalize()
    except InvalidTag:
        raise NotVerifiedError(_DAMAGED) from None
