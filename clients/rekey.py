"""Another master key for a node's vault: all that is sealed is sealed again, or all is as it was.

    1. Every sealed file opens under the old key; else nothing is begun.
    2. The new key, and `vault.next.json`, are on disk. From here nobody else opens the vault.
    3. File by file is sealed under the new key; each is whole under the one or the other.
    4. `vault.next.json` becomes `vault.json`, in one rename.
    5. Key files that it does not name are removed.

Both keys are there from 2 to 4, so a stop anywhere loses nothing: before 2 is done all is as it
was; after it the same command goes on; after 4 the new key opens everything.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from clients.passphrase import Ask, ask_on_terminal
from clients.sealed_files import kept_files, label_of, sealed_again
from clients.vault import KeyService
from clients.vault_folder import (
    FILE,
    NEXT,
    FileSource,
    Source,
    VaultFile,
    keys_of,
    make_vault,
    read_vault,
    remove_old_keys,
    vault_lock,
    write_vault,
)
from privacy.errors import InputError
from privacy.randomness import Entropy
from privacy.whole_file import sync_folder


@dataclass(frozen=True, slots=True)
class Rekeyed:
    """What a rekey came to.

    Attributes:
        files: Sealed files, all under the new key now.
        kind: Where the new key comes from.
        went_on: Whether one that was cut short was finished.
    """

    files: int
    kind: str
    went_on: bool


def new_file_source(entropy: Entropy) -> FileSource:
    """A key file of a name that no other has."""
    return FileSource(file=f"vault-{entropy(4).hex()}.key")


def rekey(
    folder: Path,
    source: Source,
    entropy: Entropy,
    *,
    ask: Ask = ask_on_terminal,
    told: Callable[[str], object] = lambda _: None,
) -> Rekeyed:
    """Give a node's folder another master key; the node must not run.

    Args:
        folder: The node's.
        source: Where the new key comes from; one that was cut short goes on with its own.
        entropy: Makes keys and nonces.
        ask: Asks a person for passphrases.
        told: Called after each step that is on disk.

    Raises:
        NotVerifiedError: A sealed file is damaged.
        InputError: A key cannot be had, or the disk refuses.
    """
    with vault_lock(folder):
        return _rekeyed(folder, source, entropy, ask, told)


def _rekeyed(
    folder: Path, source: Source, entropy: Entropy, ask: Ask, told: Callable[[str], object]
) -> Rekeyed:
    went_on = (folder / NEXT).exists()
    old_file, next_file = read_vault(folder), read_vault(folder, NEXT)
    old = None if old_file is None else keys_of(old_file, folder, entropy, ask=ask)
    if next_file is None:
        if old is not None:
            for one in kept_files(folder):
                if one.is_sealed():
                    label_of(one, old)
        next_file, new = make_vault(source, folder, entropy, ask=ask)
        told("the new key is there")
        write_vault(folder, next_file, NEXT)
        told("a rekey is under way")
    else:
        new = keys_of(next_file, folder, entropy, ask=ask)
    files = _all_again(folder, old or new, new, entropy, told)
    _finish(folder, next_file, told)
    return Rekeyed(files, next_file.source.kind, went_on)


def _all_again(
    folder: Path,
    old: KeyService,
    new: KeyService,
    entropy: Entropy,
    told: Callable[[str], object],
) -> int:
    count = 0
    for one in kept_files(folder):
        if one.is_sealed():
            sealed_again(one, old, new, entropy=entropy)
            count += 1
            told(f"{one.kind} {one.id} is sealed again")
    return count


def _finish(folder: Path, known: VaultFile, told: Callable[[str], object]) -> None:
    try:
        (folder / NEXT).replace(folder / FILE)
        sync_folder(folder)
    except OSError as failure:
        raise InputError(
            f"{folder}: cannot be written ({failure.strerror}); run this again."
        ) from None
    told("the new key is the vault's")
    remove_old_keys(folder, known)
    told("old keys are removed")
