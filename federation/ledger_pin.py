"""What a participant's machine knows of the coordinator's ledger: its key, and how far it saw it.

    <home>/participant/ledger.json   the newest state that was shown here, and the ledger's keys
                       ledger.lock   held while it is written

The first key came with the invitation. The ledger may have changed it since, and is believed only
with the proof of that: no key is taken on the coordinator's word, none is taken back, and no state
that does not follow on the one that was seen last, by whichever of this machine's processes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from federation.home import read_json, write_json
from federation.participant import Place, alone
from federation.registry.client import RegistryClient, RegistrySource
from federation.registry.opened import open_followed
from federation.registry.source import AbsentError
from privacy.errors import InputError, NotVerifiedError
from privacy.ledger.checkpoint import Checkpoint, open_checkpoint, parse_checkpoint_text
from privacy.ledger.keys import log_key
from privacy.ledger.merkle import EMPTY_ROOT, verify_consistency
from privacy.ledger.note import VerifierKey, parse_note
from privacy.ledger.rotation import key_at

FILE: Final = "ledger.json"
LOCK: Final = "ledger.lock"


@dataclass(frozen=True, slots=True)
class Pin:
    """What is known of the ledger.

    Attributes:
        keys: The number of entries from which on it signs, and the key; the newest last.
        seen: The newest state that was shown.
    """

    keys: Sequence[tuple[int, bytes]]
    seen: Checkpoint

    @property
    def key(self) -> VerifierKey:
        """The newest key that is known."""
        return self._named(self.keys[-1][1])

    def key_at(self, size: int) -> VerifierKey:
        """The key that signs a state of so many entries."""
        return self._named(key_at(self.keys, size))

    def _named(self, public: bytes) -> VerifierKey:
        return log_key(self.seen.origin, public)


def read_pin(place: Place) -> Pin:
    """Return what this machine knows of its federation's ledger.

    Raises:
        InputError: what it kept of that is damaged.
    """
    path = place.folder / FILE
    origin = place.ledger_origin
    if not path.exists():
        return Pin(((0, place.ledger_key),), Checkpoint(origin, 0, EMPTY_ROOT))
    told = read_json(path)
    try:
        keys = tuple((int(one["since"]), bytes.fromhex(one["key"])) for one in told["keys"])
        seen = Checkpoint(origin, int(told["size"]), bytes.fromhex(told["root"]))
        pin = Pin(keys, seen) if told["origin"] == origin else None
        is_ours = keys[0] == (0, place.ledger_key)
    except (KeyError, TypeError, ValueError, IndexError):
        pin, is_ours = None, False
    if pin is None or not is_ours:
        raise InputError(
            f"{path} is damaged; restore it from a copy, or delete it, and what the coordinator "
            "shows is held to the invitation alone"
        )
    return pin


def newest_state(place: Place, client: RegistryClient) -> tuple[Pin, Checkpoint]:
    """Ask for the ledger's newest signed state; hold it to what is known, and remember it.

    Returns:
        What is known now, and the state; an older one than was seen before where the registry lost
        the newest and still has its entries.

    Raises:
        NotVerifiedError: it is signed by a key that those before did not lead to, or does not
            follow on what was seen.
        TacitError: the registry cannot be asked.
    """
    source = RegistrySource(client)
    origin = place.ledger_origin
    note = client.checkpoint(origin)
    shown = parse_checkpoint_text(parse_note(note).text)
    if shown.origin != origin:
        raise NotVerifiedError(f"the registry shows another ledger than {origin}; ask the operator")
    while True:
        pin = read_pin(place)
        found = _held_to(pin, source, note, shown)
        if found == pin:
            return pin, shown
        # proofs are asked for without the lock: a coordinator that is slow keeps nobody waiting
        with alone(place.folder, LOCK):
            if read_pin(place) == pin:
                _write(place, found)
                return found, shown
        # another process saw more meanwhile: the same state is held to that


def _held_to(pin: Pin, source: RegistrySource, note: bytes, shown: Checkpoint) -> Pin:
    """Return what is known with this state, which begins or continues what is known already."""
    if shown.size < pin.seen.size:
        open_checkpoint(note, pin.key_at(shown.size))
        _require_growth(source, shown, pin.seen)
        return pin
    _, since = open_followed(source, note, pin.key, seen=pin.seen.size)
    _require_growth(source, pin.seen, shown)
    return Pin((*pin.keys, *((one.since, one.key.public) for one in since)), shown)


def _require_growth(source: RegistrySource, old: Checkpoint, new: Checkpoint) -> None:
    """Require that `new` begins with `old`."""
    try:
        trivial = old.size in {0, new.size}
        proof = () if trivial else source.consistency(old.origin, old.size, new.size)
        verify_consistency(old.size, old.root, new.size, new.root, proof)
    except (AbsentError, InputError, NotVerifiedError):
        raise NotVerifiedError(
            f"the coordinator shows a ledger of {new.size} entries that does not begin with the "
            f"{old.size} that it showed before; trust nothing of it, and tell the other members"
        ) from None


def _write(place: Place, pin: Pin) -> None:
    write_json(
        place.folder / FILE,
        {
            "origin": pin.seen.origin,
            "keys": [{"since": since, "key": key.hex()} for since, key in pin.keys],
            "size": pin.seen.size,
            "root": pin.seen.root.hex(),
        },
    )
