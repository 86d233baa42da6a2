"""An identity of this machine that is made the first time it is asked for."""

from pathlib import Path

from privacy.errors import InputError
from privacy.identity import Identity
from privacy.randomness import Entropy


def kept_identity(path: Path, entropy: Entropy) -> Identity:
    """The identity in a file; one that is not there is made. One that is there is never replaced.

    Of two processes that make it at once, both have the one that is there in the end.

    Raises:
        InputError: It cannot be read or made.
    """
    if not path.exists():
        try:
            Identity.create(entropy).save(path)
        except InputError:
            if not path.exists():
                raise
    return Identity.load(path)
