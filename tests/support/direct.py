"""A federation without an engine: real nodes and the real coordinator, joined by function calls.

Every message is still packed and unpacked, so nothing passes that could not travel.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aggregator import coordinator
from aggregator.coordinator import RunResult
from aggregator.ports import Answer
from clients.members import read_members
from clients.node import Node, NodeSettings
from clients.policy import NodePolicy
from federation.config import Project, load_project
from privacy.errors import TacitError
from privacy.identity import Identity
from privacy.manifest import SIGNING_DOMAIN, Manifest
from privacy.messages import (
    Parcel,
    Refused,
    Reply,
    Request,
    Vector,
    pack,
    unpack_reply,
    unpack_request,
)
from privacy.randomness import system_bytes

Tamper = Callable[[str, Request, Parcel], Parcel]


@dataclass
class DirectTransport:
    """`aggregator.ports.Transport` over nodes in this process."""

    members: Mapping[int, Node]
    tamper_request: Tamper | None = None
    tamper_reply: Tamper | None = None
    seen: list[tuple[str, Request, Parcel]] = field(default_factory=list)

    def nodes(self) -> tuple[int, ...]:
        return tuple(self.members)

    def exchange(
        self,
        requests: Mapping[int, tuple[Request, Vector | None]],
        *,
        kind: str,
        deadline_s: float,
    ) -> Mapping[int, Answer]:
        del kind, deadline_s
        answers: dict[int, Answer] = {}
        for address, (request, vector) in requests.items():
            node = self.members[address]
            parcel = pack(request, vector)
            if self.tamper_request is not None:
                parcel = self.tamper_request(node.member, request, parcel)
            reply = pack(*_handled(node, parcel))
            if self.tamper_reply is not None:
                reply = self.tamper_reply(node.member, request, reply)
            self.seen.append((node.member, request, reply))
            answers[address] = unpack_reply(reply)
        return answers


def _handled(node: Node, parcel: Parcel) -> tuple[Reply, Vector | None]:
    try:
        return node.handle(*unpack_request(parcel))
    except TacitError as refusal:
        return Refused(member=node.member, reason=str(refusal)), None


@dataclass
class Notes:
    """A ledger and an observer that remember."""

    entries: list[tuple[str, dict[str, object]]] = field(default_factory=list)
    rounds: list[dict[str, float]] = field(default_factory=list)

    def record(self, kind: str, body: Mapping[str, object]) -> None:
        self.entries.append((kind, dict(body)))

    def step(self, name: str) -> None:
        del name

    def round(self, index: int, metrics: Mapping[str, float], facts: Mapping[str, float]) -> None:
        del index, facts
        self.rounds.append(dict(metrics))


@dataclass
class Direct:
    """A federation that is ready to run once."""

    project: Project
    manifest: Manifest
    launcher: Identity
    nodes: dict[int, Node]
    transport: DirectTransport
    notes: Notes = field(default_factory=Notes)

    def run(self) -> RunResult:
        return coordinator.run(
            self.manifest,
            self.launcher.sign(SIGNING_DOMAIN, self.manifest.to_bytes()),
            transport=self.transport,
            ledger=self.notes,
            observer=self.notes,
        )


def assemble(
    config: Path, root: Path, *, seed: int = 0, policy: NodePolicy | None = None
) -> Direct:
    """Make identities, nodes and a manifest for a small federation."""
    project = load_project(config)
    contract = project.contract
    rows = read_members(contract, root)
    launcher = Identity.create(system_bytes)
    keys = {member: Identity.create(system_bytes) for member in rows}
    manifest = Manifest(
        run="test-run",
        name=project.config.name,
        task=project.config.task,
        unit=contract.unit,
        contract=contract.digest,
        directory={member: key.public.hex() for member, key in keys.items()},
        minimum_cohort=project.config.minimum_cohort,
        protection=project.config.protection,
        node_settings=project.config.node_settings(seed=seed, fold=None),
        coordinator_settings=project.config.coordinator_settings(contract),
    )
    nodes = {
        100 + i: Node(
            NodeSettings(
                member=member,
                identity=keys[member],
                launcher=launcher.public,
                known={name: key.public for name, key in keys.items()},
                contract=contract,
                rows=lambda _, own=own: own,  # type: ignore[misc]
                policy=policy or NodePolicy(),
                home=root / "nodes" / member,
                device="cpu",
            )
        )
        for i, (member, own) in enumerate(rows.items())
    }
    return Direct(project, manifest, launcher, nodes, DirectTransport(nodes))
