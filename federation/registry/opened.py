"""A log's newest state, opened under a key that is known, or one that it led to."""

from collections.abc import Sequence

from federation.registry.source import Source
from privacy.ledger.checkpoint import Checkpoint, open_checkpoint, parse_checkpoint_text
from privacy.ledger.note import VerifierKey, parse_note
from privacy.ledger.rotation import KeySince, keys_after


def open_followed(
    source: Source, note: bytes, known: VerifierKey, *, seen: int = 0
) -> tuple[Checkpoint, Sequence[KeySince]]:
    """Return the state in a note, and the keys that its log had after the known one.

    The registry is asked for changes of the key only where the known one did not sign. That the
    state follows on what was seen before is the caller's to verify.

    Args:
        source: Where the log is.
        note: Its newest checkpoint.
        known: A key that the log had.
        seen: Entries of the last state that was seen under it.

    Raises:
        NotVerifiedError: the known key did not sign, and nothing shows that it led to one that did.
        TacitError: the source cannot be asked.
    """
    state = parse_checkpoint_text(parse_note(note).text)
    keys: Sequence[KeySince] = ()
    if not parse_note(note).by(known) and seen < state.size:
        rotations = source.rotations(known.name, seen, state.size)
        keys = keys_after(known, rotations, state, seen=seen)
    return open_checkpoint(note, keys[-1].key if keys else known), keys
