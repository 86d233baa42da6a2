"""The coordinator's ledger as it is, shown to nodes outside of sums: they cosign it or say why not.

Where the ledger has another key than it had, whoever follows it under an earlier one is shown how
that came about before it is asked for anything: a manifest names the key that the ledger has now,
and a node takes no new key on the word of whoever signed that.
"""

from collections.abc import Collection
from typing import Final

from aggregator.plan import parse_plan
from aggregator.ports import Ledger, Observer, State, Transport
from privacy.errors import NotVerifiedError, ProtocolError, RefusedError
from privacy.ledger.checkpoint import parse_checkpoint_text, verify_cosignature
from privacy.ledger.keys import cosigner_key
from privacy.ledger.note import NoteSignature, parse_note
from privacy.manifest import Manifest
from privacy.messages import Cosigned, Refused, Reply, ShownRotation, SignedState, StateNotice
from privacy.one_line import in_one_line

SHOWN_S: Final = 120.0
"""Longest that nodes are waited for."""
TRIES: Final = 3
_REASON_CHARACTERS_MAX = 400


def show_state(
    manifest: Manifest,
    nodes: Collection[int],
    state: State,
    *,
    transport: Transport,
    ledger: Ledger,
    observer: Observer,
) -> dict[str, tuple[bytes, bytes]]:
    """Show a state to some nodes; return who cosigned it, with key and cosignature.

    Each is shown it first with a proof from nothing; who remembers more says so, and is shown it
    again with the proof from there, and once more where an answer was lost meanwhile. Who follows
    nothing yet says that, too.
    """
    origin = manifest.ledger["origin"]
    directory = manifest.directory_keys()
    rotations = tuple(
        ShownRotation(leaf=one.leaf, index=one.index, path=one.path)
        for one in ledger.rotations(state)
    )
    due = dict.fromkeys(nodes, 0)
    cosigned: dict[str, tuple[bytes, bytes]] = {}
    for _ in range(TRIES):
        if not due:
            break
        answers = transport.exchange(
            {
                node: (
                    StateNotice(
                        origin=origin,
                        state=SignedState(
                            checkpoint=state.note, old=old, growth=ledger.growth(old, state)
                        ),
                        rotations=rotations,
                    ),
                    b"",
                )
                for node, old in due.items()
            },
            kind="query",
            deadline_s=min(SHOWN_S, parse_plan(dict(manifest.coordinator_settings)).deadline_s),
            needed=list(due),
            grace_s=0.0,
        )
        again: dict[int, int] = {}
        for node, (reply, _) in answers.items():
            member = reply.member
            if member not in directory or not speaks_for(transport, node, member):
                continue  # a node that is online, but was not asked for
            try:
                found = _cosigned(reply)
                if found.cosignature is not None:
                    require_cosigned(member, directory[member], state, found.cosignature)
                    cosigned[member] = directory[member], found.cosignature
                    ledger.note_witnessed(directory[member], state.size)
                elif due[node] < found.witnessed <= state.size:
                    again[node] = found.witnessed
                elif found.witnessed or not rotations:
                    raise ProtocolError(f"{member} remembers another ledger; compare both copies")
            except RefusedError as fault:
                # an address that nobody vouches for may be another's, whatever it calls itself
                named = node in transport.names
                whose = member if named else f"a node that calls itself {member}"
                observer.note(f"{whose} does not cosign the ledger: {fault}")
        due = again
    return cosigned


def show_rotations(
    manifest: Manifest,
    nodes: Collection[int],
    *,
    transport: Transport,
    ledger: Ledger,
    observer: Observer,
) -> None:
    """Show nodes the ledger with all changes of its key, unless all members are known to have seen.

    What a node says to that is told to the observer; whether it follows shows when it is asked.
    """
    with ledger.showing():
        state = ledger.state()
        rotations = ledger.rotations(state)
        members = manifest.directory_keys().values()
        if all(ledger.witnessed(key) > one.index for one in rotations[-1:] for key in members):
            return
        show_state(manifest, nodes, state, transport=transport, ledger=ledger, observer=observer)


def require_cosigned(member: str, public: bytes, state: State, cosignature: bytes) -> None:
    """Return if a member cosigned a state.

    Raises:
        ProtocolError: It did not.
    """
    key = cosigner_key(member, public)
    text = parse_note(state.note).text
    try:
        verify_cosignature(
            parse_checkpoint_text(text), key, NoteSignature(key.name, key.key_id, cosignature)
        )
    except NotVerifiedError as fault:
        raise ProtocolError(
            f"{member} did not cosign the ledger that it was shown: {fault}"
        ) from None


def speaks_for(transport: Transport, node: int, member: str) -> bool:
    """Whether what came from an address may be a member's word."""
    return transport.names.get(node, member) == member


def clean(reason: str) -> str:
    """A member's words, short and printable: whoever sent them may be hostile to a terminal."""
    return in_one_line(reason[:_REASON_CHARACTERS_MAX])


def _cosigned(reply: Reply) -> Cosigned:
    if isinstance(reply, Refused):
        raise RefusedError(f"{clean(reply.member)} refused: {clean(reply.reason)}")
    if not isinstance(reply, Cosigned):
        raise ProtocolError("A node answered another question than it was asked.")
    return reply
