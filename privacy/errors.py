"""Every error that a user can meet, as one tree.

    TacitError                what the command line turns into one sentence and an exit code
    +-- InputError            (2) a file, key or option that was given cannot be used
    +-- RefusedError          (1) understood, and the answer is no
        +-- DataError         rows do not keep their contract
        +-- BudgetError       a privacy budget does not hold a release
        +-- ProtocolError     a message is malformed, repeated, forged or from another round
        |   +-- CohortError   too few members, or not the agreed ones, for a sum
        +-- NotVerifiedError  a ledger does not hold what it claims
        |   +-- DamagedFileError  such a ledger, or another file, of this machine
        +-- OwnFileError      a file of this machine cannot be used; the sentence says where it is
            +-- DamagedFileError

A message is one clear sentence that says what to do. It names files, columns and members, never
values of rows. Whatever was put in it, from a file or from another member, it is said in one line
that a terminal can show. Errors of the programmer stay `ValueError` and `RuntimeError`.
"""

from typing import Final

from privacy.one_line import in_one_line


class TacitError(Exception):
    """The root of what a user can meet; `exit_code` is what the command line ends with."""

    exit_code = 1

    def __str__(self) -> str:
        """The message, in one printable line."""
        return in_one_line(super().__str__())


class InputError(TacitError):
    """A file, key or option that was given cannot be used."""

    exit_code = 2


class RefusedError(TacitError):
    """The request was understood, and the answer is no."""


class DataError(RefusedError):
    """Rows do not keep their contract."""


class BudgetError(RefusedError):
    """A privacy budget does not hold a release; the sentence says what was spent, anywhere."""


class ProtocolError(RefusedError):
    """A message is malformed, repeated, forged, or belongs to another round."""


class CohortError(ProtocolError):
    """Too few members, or not the agreed ones, for a sum to be opened."""


class NotVerifiedError(RefusedError):
    """A ledger does not hold what it claims."""


class OwnFileError(RefusedError):
    """A ledger, or another file, of this machine cannot be used as it has to be.

    The sentence may say where it lies, so it is for this machine's people alone.

    Attributes:
        told: What others are told instead.
    """

    told: Final = "A file of this machine cannot be used; its own log says why."


def said_to_others(fault: Exception) -> str:
    """What others are told of a fault that may be about this machine's own files."""
    own = isinstance(fault, OwnFileError | InputError)
    return OwnFileError.told if own else str(fault)


class DamagedFileError(OwnFileError, NotVerifiedError):
    """A ledger, or another file, of this machine does not hold what it has to."""
