"""Homes with the ledgers of one small run in them, as a launch leaves them. For tests only."""

from pathlib import Path

from support.ledgers import (
    COORDINATOR,
    COSIGNED_S,
    DATASET,
    NAMES,
    NOISE,
    Nodes,
    Script,
    key_of,
)

from clients.ledger_files import LEDGER
from federation.home import Home, write_json
from federation.ledger_recorder import LedgerRecorder
from privacy.ledger.checkpoint import cosign, parse_checkpoint_text
from privacy.ledger.keys import cosigner_key
from privacy.ledger.note import parse_note
from privacy.ledger.sqlite import SqliteLedger
from privacy.ledger.store import head_of

MEMBERS = NAMES[:3]


class Household:
    """A home where the coordinator and its members keep their ledgers, and their identities.

    Attributes:
        home: The folder.
        nodes: The members' own ledgers, in their folders.
        recorder: The coordinator's ledger.
    """

    def __init__(self, root: Path, members: tuple[str, ...] = MEMBERS) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.home = Home(root)
        self.members = members
        key_of(COORDINATOR).save(self.home.coordinator)
        for member in members:
            folder = self.home.node(DATASET, member)
            folder.mkdir(parents=True)
            key_of(member).save(folder / "identity.pem")
        self.nodes = Nodes(
            members,
            epsilon=8.0,
            stores={member: SqliteLedger(self.ledger_of(member)) for member in members},
        )
        self.recorder = LedgerRecorder(SqliteLedger(self.home.ledger), key_of(COORDINATOR))

    def ledger_of(self, member: str) -> Path:
        """Where a member keeps its own."""
        return self.home.node(DATASET, member) / LEDGER

    def run(self, name: str = "r") -> Script:
        """A finished run, whose last sum all members cosigned, and whose folder remembers that."""
        script = Script(name, self.members, nodes=self.nodes, privacy=NOISE)
        script.begin().train().finish().register()
        for kind, body in script.lines:
            self.recorder.record(kind, body)
        self.cosign(name)
        return script

    def start(self, name: str = "s") -> None:
        """One more entry, which nobody has signed yet: another run begins."""
        ((kind, body),) = Script(name, self.members).start().lines
        self.recorder.record(kind, body)

    def cosign(self, name: str = "r") -> None:
        """All members cosign the newest state, and the run's folder remembers it."""
        state = self.recorder.state()
        told = parse_checkpoint_text(parse_note(state.note).text)
        signatures = {}
        for member in self.members:
            identity = key_of(member)
            line = cosign(
                told,
                key=cosigner_key(member, identity.public),
                sign=identity.sign_note,
                time_s=COSIGNED_S,
            )
            signatures[member] = (identity.public, line.signature)
        self.recorder.cosigned(name, state, signatures)
        self.remember(name)

    def remember(self, name: str = "r") -> None:
        """The run's result holds the head as it is now."""
        head = head_of(self.recorder.store)
        folder = self.home.runs / name
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "result.json", {"ledger": {"leaves": head.leaves, "root": head.root}})
