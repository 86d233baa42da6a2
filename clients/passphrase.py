"""A passphrase, from where nobody else reads it: a terminal, a file, a descriptor, or systemd.

Never from a command line or an environment, which other processes of the machine may see.
"""

import fcntl
import getpass
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

from clients.frozen import Frozen
from privacy.errors import InputError

LONGEST_BYTES: Final = 1024
CREDENTIALS: Final = "CREDENTIALS_DIRECTORY"
Ask = Callable[[str], str]
_DIGITS: Final = 6  # of a descriptor's number


class PassphrasePlace(Frozen):
    """Where a passphrase is read.

    Attributes:
        of: `terminal`: asked for there; `file`: a path, its owner's alone; `descriptor`: a number
            that whoever starts the process opened; `credential`: systemd's (`LoadCredential=`).
        at: Path, number or name; empty for a terminal.
    """

    of: Literal["terminal", "file", "descriptor", "credential"]
    at: str = ""


def parse_place(text: str) -> PassphrasePlace:
    """Read `terminal`, `file:PATH`, `descriptor:NUMBER` or `credential:NAME`.

    Raises:
        InputError: It is none of them.
    """
    of, _, at = text.partition(":")
    if of == "terminal" and not at:
        return PassphrasePlace(of="terminal")
    if of == "file" and at:
        return PassphrasePlace(of="file", at=str(Path(at).absolute()))
    if of == "descriptor" and at.isascii() and at.isdecimal() and len(at) <= _DIGITS:
        return PassphrasePlace(of="descriptor", at=at)
    if of == "credential" and at and "/" not in at and not at.startswith("."):
        return PassphrasePlace(of="credential", at=at)
    raise InputError(
        f"{text}: is no place of a passphrase; say terminal, file:PATH, descriptor:NUMBER or "
        "credential:NAME."
    )


def ask_on_terminal(prompt: str) -> str:
    """Ask a person; what is typed is not shown.

    Raises:
        InputError: There is no terminal.
    """
    if not sys.stdin.isatty():
        raise InputError(
            "the vault's passphrase is asked for on a terminal, and there is none; start this on "
            "one, or let it be read from elsewhere: tacit node rekey --passphrase file:PATH"
        )
    return getpass.getpass(prompt)


def read_passphrase(
    place: PassphrasePlace, *, prompt: str = "Passphrase of the vault: ", ask: Ask = ask_on_terminal
) -> str:
    """Return a passphrase; one line end behind it is no part of it.

    Raises:
        InputError: It cannot be read there, others may read it, or it is no text.
    """
    if place.of == "terminal":
        return ask(prompt)
    try:
        raw = _raw(place)
    except OSError as failure:
        raise InputError(
            f"the passphrase cannot be read from {place.of} {place.at} ({failure.strerror})"
        ) from None
    if len(raw) > LONGEST_BYTES:
        raise InputError(f"the passphrase is longer than {LONGEST_BYTES} bytes; is it a file?")
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise InputError("the passphrase is not UTF-8 text") from None
    return text.removesuffix("\n").removesuffix("\r")


def _from_descriptor(number: int) -> bytes:
    """Read to the end of a descriptor, and close it: it says its passphrase once.

    One that this process can write to is its own, such as a lock, and not who started it's.
    """
    if fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY:
        raise InputError(f"the passphrase cannot be read from descriptor {number}: it is not open")
    found = bytearray()
    while len(found) <= LONGEST_BYTES and (more := os.read(number, LONGEST_BYTES + 1)):
        found += more
    os.close(number)
    return bytes(found)


def _raw(place: PassphrasePlace) -> bytes:
    if place.of == "descriptor":
        return _from_descriptor(int(place.at))
    if place.of == "credential":
        folder = os.environ.get(CREDENTIALS)
        if not folder:
            raise InputError(
                f"systemd gave no credentials; put LoadCredential={place.at}:PATH in the unit"
            )
        path = Path(folder) / place.at
    else:
        path = Path(place.at)
        if os.name == "posix" and path.stat().st_mode & 0o077:
            raise InputError(f"others may read the passphrase {path}; run chmod 600 {path}")
    with path.open("rb") as file:
        return file.read(LONGEST_BYTES + 1)
