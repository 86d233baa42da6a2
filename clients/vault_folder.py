"""A folder's vault: where its master key comes from, told in `vault.json`, and whether it is right.

    <node>/vault.json        file, passphrase or command; a check value; a digest over all of it
    <node>/vault.key         the key, where it is a file (after a rekey: vault-<8 digits>.key)
    <node>/vault.next.json   a rekey is under way (`clients.rekey`)

The digest tells a damaged file, the check value (32 known bytes, wrapped) a wrong key. A folder
of an earlier version has `vault.key` alone, and gets its `vault.json` when its node starts.
"""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from filelock import FileLock, Timeout
from pydantic import Field, TypeAdapter, ValidationError

from clients.durable_file import write_whole
from clients.frozen import Frozen
from clients.passphrase import Ask, PassphrasePlace, ask_on_terminal, read_passphrase
from clients.vault import (
    KEY_FILE,
    CommandKey,
    KeyService,
    KnownVault,
    MasterKey,
    Vault,
    file_key,
    passphrase_key,
)
from privacy.canonical import canonical_json
from privacy.errors import InputError, NotVerifiedError, RefusedError
from privacy.json_value import json_value
from privacy.randomness import Entropy
from privacy.whole_file import sync_folder

FILE: Final = "vault.json"
LOCK: Final = ".vault.lock"
LOCK_S: Final = 20.0
NEXT: Final = "vault.next.json"
SEALED_CLASSES: Final = ("L3", "L4")
SALT_BYTES: Final = 32
KEY_NAME: Final = re.compile(r"vault(-[0-9a-f]{8})?\.key")
_CHECK: Final = hashlib.sha256(b"tacit/vault/check/v1").digest()
_DIGEST: Final = b"tacit/vault/settings/v1\0"
_OPEN: dict[bytes, KeyService] = {}
_OPENING = threading.Lock()


class FileSource(Frozen):
    """A key in a file beside the vault's settings.

    Attributes:
        file: Its name.
    """

    kind: Literal["file"] = "file"
    file: Annotated[str, Field(pattern=r"^vault(-[0-9a-f]{8})?\.key$")] = KEY_FILE


class PassphraseSource(Frozen):
    """A key that is made of a passphrase and a salt of this folder's own.

    Attributes:
        salt: 32 bytes, hexadecimal, drawn when the passphrase was chosen.
        place: Where the passphrase is read.
    """

    kind: Literal["passphrase"] = "passphrase"
    salt: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    place: PassphrasePlace


class CommandSource(Frozen):
    """A key that a service holds; see `CommandKey`.

    Attributes:
        command: The program and its arguments; no shell reads them.
        timeout_s: For one answer.
    """

    kind: Literal["command"] = "command"
    command: Annotated[tuple[str, ...], Field(min_length=1)]
    timeout_s: Annotated[float, Field(gt=0, le=600)] = 10.0


Source = FileSource | PassphraseSource | CommandSource
_SOURCE: TypeAdapter[Source] = TypeAdapter(Annotated[Source, Field(discriminator="kind")])


class VaultFile(Frozen):
    """What `vault.json` says.

    Attributes:
        source: Where the key comes from.
        check: 32 known bytes under the key, hexadecimal; longer where a service wraps longer.
    """

    source: Source
    check: str

    @property
    def data(self) -> bytes:
        """As it lies on disk."""
        said = {"format": 1, "source": self.source.model_dump(mode="json"), "check": self.check}
        return json.dumps({**said, "digest": _digest(said)}, indent=1).encode() + b"\n"

    @classmethod
    def parse(cls, data: bytes, where: Path) -> Self:
        """Read what `data` gave.

        Raises:
            InputError: It was changed or cut off.
        """
        damaged = InputError(f"{where}: is damaged; restore it from a copy.")
        try:
            said = json_value(data)
            digest = said.pop("digest")
            whole = said["format"] == 1 and digest == _digest(said)
            source = _SOURCE.validate_json(json.dumps(said["source"]))
            known = cls(source=source, check=str(said["check"]))
        except (ValueError, KeyError, TypeError, AttributeError, ValidationError):
            raise damaged from None
        if not whole:
            raise damaged
        return known


def folder_vault(folder: Path, data_class: str, entropy: Entropy) -> Vault | None:
    """What is kept in a node's folder is sealed with; None for L1 and L2, or without a key there.

    Raises:
        InputError: The key cannot be had, or is another one.
        RefusedError: A rekey was cut short.
    """
    if data_class not in SEALED_CLASSES:
        return None
    keys = open_keys(folder, entropy)
    return None if keys is None else Vault(keys, data_class, entropy)


def known_vault(folder: Path, entropy: Entropy) -> KnownVault | None:
    """What reads a node's folder where no contract says the class; None without a key there.

    Raises:
        InputError: As `folder_vault`.
    """
    found = [folder_vault(folder, data_class, entropy) for data_class in SEALED_CLASSES]
    known = [one for one in found if one is not None]
    return KnownVault(known) if known else None


def open_keys(folder: Path, entropy: Entropy, *, ask: Ask = ask_on_terminal) -> KeyService | None:
    """Return who holds a folder's master key, checked; None where nothing is sealed there.

    A passphrase is read once a process, a service's check asked for once.

    Raises:
        InputError: The key cannot be had, is another one than this folder's, or `vault.json` is
            damaged.
        RefusedError: A rekey was cut short.
    """
    if (folder / NEXT).exists():
        raise RefusedError(
            f"a rekey of {folder} was cut short, and nothing is lost; run tacit node rekey again."
        )
    known = read_vault(folder)
    return None if known is None else keys_of(known, folder, entropy, ask=ask)


def read_vault(folder: Path, name: str = FILE) -> VaultFile | None:
    """Read a folder's settings; None where it has no key. A lone `vault.key` has no check value.

    Raises:
        InputError: They are damaged or cannot be read.
    """
    path = folder / name
    try:
        return VaultFile.parse(path.read_bytes(), path)
    except FileNotFoundError:
        if name == FILE and (folder / KEY_FILE).exists():
            return VaultFile(source=FileSource(), check="")
        return None
    except OSError as failure:
        raise InputError(f"{path}: cannot be read ({failure.strerror}).") from None


def keys_of(
    known: VaultFile, folder: Path, entropy: Entropy, *, ask: Ask = ask_on_terminal
) -> KeyService:
    """Return who holds the key that settings name, checked against their check value.

    Raises:
        InputError: The key cannot be had, or is another one.
    """
    if isinstance(known.source, FileSource):
        keys = _from_source(known.source, folder, entropy, ask)
        _require_right(known, keys, folder)
        return keys
    name = hashlib.sha256(str(folder.absolute()).encode() + b"\0" + known.data).digest()
    with _OPENING:
        if name not in _OPEN:
            keys = _from_source(known.source, folder, entropy, ask)
            _require_right(known, keys, folder)
            _OPEN[name] = keys
        return _OPEN[name]


def make_vault(
    source: Source, folder: Path, entropy: Entropy, *, ask: Ask = ask_on_terminal
) -> tuple[VaultFile, KeyService]:
    """Have a key where `source` says, and return settings with its check value; not yet written.

    Raises:
        InputError: The key cannot be made or had.
    """
    if isinstance(source, FileSource):
        file_key(folder / source.file, entropy)
    keys = _from_source(source, folder, entropy, ask, new=True)
    known = VaultFile(source=source, check=keys.wrap(_CHECK).hex())
    _require_right(known, keys, folder)  # a service that wraps and cannot unwrap would lose all
    if not isinstance(source, FileSource):
        name = hashlib.sha256(str(folder.absolute()).encode() + b"\0" + known.data).digest()
        with _OPENING:
            _OPEN[name] = keys
    return known, keys


def write_vault(folder: Path, known: VaultFile, name: str = FILE) -> None:
    """Write settings; on disk on return.

    Raises:
        InputError: They cannot be written.
    """
    try:
        write_whole(folder / name, known.data, mode=0o600)
    except OSError as failure:
        raise InputError(
            f"{folder / name}: cannot be written ({failure.strerror}); free some space."
        ) from None


@contextmanager
def vault_lock(folder: Path) -> Iterator[None]:
    """One process at a time makes or changes a folder's key, or seals with it for the first time.

    Whoever calls `ensure_vault`, `rekey` or `remove_old_keys` holds it; it does not nest.

    Raises:
        InputError: The folder cannot be written.
        RefusedError: Another process holds it.
    """
    lock = FileLock(folder / LOCK, timeout=LOCK_S)
    try:
        lock.acquire()
    except Timeout:
        raise RefusedError(
            f"{folder}: another process changes the vault's key; run this again when it is done."
        ) from None
    except OSError as failure:
        raise InputError(f"{folder}: cannot be written ({failure.strerror}).") from None
    try:
        yield
    finally:
        lock.release()


def ensure_vault(folder: Path, entropy: Entropy) -> tuple[VaultFile, bool]:
    """Open a node's vault as it starts; make one with a key file where it has none.

    Returns:
        Its settings, and whether a key was made.

    Raises:
        InputError: The key cannot be had, or is another one than this folder's.
        RefusedError: A rekey was cut short.
    """
    known = read_vault(folder)
    if known is not None and known.check:
        open_keys(folder, entropy)
        return known, False
    new = known is None
    if new:
        _require_nothing_sealed(folder, entropy)
    known, _ = make_vault(FileSource(), folder, entropy)
    write_vault(folder, known)
    return known, new


def remove_old_keys(folder: Path, known: VaultFile) -> None:
    """Remove key files that a vault's settings do not name; a rekey that was stopped left them."""
    if (folder / NEXT).exists() or read_vault(folder) != known:
        return
    named = known.source.file if isinstance(known.source, FileSource) else ""
    for path in folder.glob("vault*.key"):
        if path.name != named and KEY_NAME.fullmatch(path.name):
            with suppress(OSError):
                path.unlink()
    with suppress(OSError):
        sync_folder(folder)


def _require_nothing_sealed(folder: Path, entropy: Entropy) -> None:
    """Return if a folder without settings may have a new key: nothing there needs another."""
    from clients.sealed_files import kept_files

    open_keys(folder, entropy)  # says so where a rekey was cut short
    if any(one.is_sealed() for one in kept_files(folder)):
        raise InputError(
            f"{folder / FILE}: is gone, and files here are sealed with the key that it names; put "
            "it back from your copy."
        )


def _from_source(
    source: Source, folder: Path, entropy: Entropy, ask: Ask, *, new: bool = False
) -> KeyService:
    if isinstance(source, CommandSource):
        return CommandKey(source.command, source.timeout_s)
    if isinstance(source, PassphraseSource):
        prompt = "New passphrase of the vault: " if new else "Passphrase of the vault: "
        said = read_passphrase(source.place, prompt=prompt, ask=ask)
        if new and source.place.of == "terminal" and ask("The same again: ") != said:
            raise InputError("the two passphrases differ; nothing was changed, begin again")
        return MasterKey(passphrase_key(said, bytes.fromhex(source.salt)), entropy)
    path = folder / source.file
    if not path.exists():
        raise InputError(f"{path}: the vault's key is gone; put it back from your copy.")
    return MasterKey(file_key(path, entropy), entropy)


def _require_right(known: VaultFile, keys: KeyService, folder: Path) -> None:
    if not known.check:
        return  # of an earlier version
    try:
        right = keys.unwrap(bytes.fromhex(known.check)) == _CHECK
    except (NotVerifiedError, ValueError):
        right = False
    if not right:
        what = {
            "file": "the key file is another one",
            "passphrase": "the passphrase is wrong",
            "command": "the key service has another key",
        }[known.source.kind]
        raise InputError(
            f"{folder}: {what} than what is sealed here; nothing was changed."
            if known.source.kind != "passphrase"
            else f"{folder}: {what}; nothing was changed, try again."
        )


def _digest(said: object) -> str:
    return hashlib.sha256(_DIGEST + canonical_json(said)).hexdigest()
