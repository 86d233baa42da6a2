"""A federation without an engine: real nodes and the real coordinator, joined by function calls.

Every message is still packed and unpacked, so nothing passes that could not travel.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aggregator import coordinator
from aggregator.coordinator import RunResult
from aggregator.ports import Answer
from clients.members import read_members
from clients.model_file import load_model, opened_model, parse_model
from clients.node import Node
from clients.node_settings import NodeSettings
from clients.policy import NodePolicy
from clients.vault_folder import folder_vault
from federation.config import Project, load_project
from federation.declaration import declaration
from federation.evidence import Evidence, LedgerView, to_bundle
from federation.ledger_recorder import LedgerRecorder
from federation.record import read_sums
from privacy.errors import ProtocolError, TacitError
from privacy.identity import Identity
from privacy.ledger.bundle import Bundle
from privacy.ledger.keys import log_origin
from privacy.ledger.memory import MemoryLedger
from privacy.ledger.store import LedgerStore, entries_of
from privacy.ledger.trust import TrustPolicy
from privacy.manifest import SIGNING_DOMAIN, Manifest
from privacy.messages import (
    Parcel,
    Refused,
    Reply,
    Request,
    pack,
    unpack_reply,
    unpack_request,
    vector_digest,
)
from privacy.randomness import system_bytes
from privacy.verify import Verdict, verify_bundle

Tamper = Callable[[str, Request, Parcel], Parcel]


@dataclass
class DirectTransport:
    """`aggregator.ports.Transport` over nodes in this process."""

    members: Mapping[int, Node]
    tamper_request: Tamper | None = None
    tamper_reply: Tamper | None = None
    away: Callable[[str, Request, bool], bool] | None = None
    seen: list[tuple[str, Request, Parcel]] = field(default_factory=list)

    @property
    def names(self) -> Mapping[int, str]:
        return {}

    def nodes(self) -> tuple[int, ...]:
        return tuple(self.members)

    def exchange(
        self,
        requests: Mapping[int, tuple[Request, bytes]],
        *,
        kind: str,
        deadline_s: float,
        needed: Collection[int],
        grace_s: float,
        enough: int = 0,
    ) -> Mapping[int, Answer]:
        del kind, deadline_s, needed, grace_s, enough
        answers: dict[int, Answer] = {}
        for address, (request, payload) in requests.items():
            node = self.members[address]
            parcel = pack(request, payload)
            if self.tamper_request is not None:
                parcel = self.tamper_request(node.member, request, parcel)
            if self.away is not None and self.away(node.member, request, False):
                continue
            reply = pack(*_handled(node, parcel))
            if self.away is not None and self.away(node.member, request, True):
                continue
            if self.tamper_reply is not None:
                reply = self.tamper_reply(node.member, request, reply)
            self.seen.append((node.member, request, reply))
            try:
                answers[address] = unpack_reply(reply)
            except ProtocolError as fault:
                answers[address] = Refused(member="a node", reason=str(fault)), b""
        return answers


def _handled(node: Node, parcel: Parcel) -> tuple[Reply, bytes]:
    try:
        return node.handle(*unpack_request(parcel))
    except TacitError as refusal:
        return Refused(member=node.member, reason=str(refusal)), b""


def recorder(store: LedgerStore | None = None, identity: Identity | None = None) -> LedgerRecorder:
    """A coordinator's ledger with a key of its own; in memory, unless a store is given."""
    return LedgerRecorder(
        MemoryLedger() if store is None else store, identity or Identity.create(system_bytes)
    )


@dataclass
class Notes:
    """A coordinator's ledger, and an observer that remembers."""

    recorder: LedgerRecorder = field(default_factory=recorder)
    rounds: list[tuple[int, bool]] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)

    @property
    def entries(self) -> list[tuple[str, dict[str, Any]]]:
        """What the ledger holds: kind and body of each entry."""
        return [(one.kind, dict(one.body)) for one in entries_of(self.recorder.store.leaves())]

    def step(self, name: str) -> None:
        del name

    def round(self, index: int, *, watched: bool, facts: Mapping[str, float]) -> None:
        del facts
        self.rounds.append((index, watched))

    def answered(self, member: str, answer: str, reason: str) -> None:
        del member, answer, reason

    def note(self, sentence: str) -> None:
        self.sentences.append(sentence)


@dataclass(frozen=True)
class Outcome:
    """What a run leaves: at the coordinator, and at the first member."""

    result: RunResult
    model: NDArray[np.float32]
    statistics: list[NDArray[np.float64]]
    metrics: Mapping[str, float]
    personal: Mapping[str, float]


@dataclass
class Direct:
    """A federation that is ready to run once; `again` makes it ready for the next run."""

    project: Project
    manifest: Manifest
    launcher: Identity
    nodes: dict[int, Node]
    transport: DirectTransport
    notes: Notes = field(default_factory=Notes)

    def run(self) -> Outcome:
        result = coordinator.run(
            self.manifest,
            self.launcher.sign(SIGNING_DOMAIN, self.manifest.to_bytes()),
            launcher=self.launcher.public,
            data=declaration(self.project.contract),
            transport=self.transport,
            ledger=self.notes.recorder,
            observer=self.notes,
        )
        folder = self._folder(next(iter(self.nodes.values())).member)
        rounds = self.project.config.training.rounds
        vault = folder_vault(folder.parent.parent, "L3", system_bytes)
        data = opened_model(folder / "model.safetensors", self.manifest.run, vault)
        tensors, _ = parse_model(data, str(folder))
        stages = range(self.project.config.features.stages)
        statistics = [tensors[f"statistics.{stage}"] for stage in stages]
        sums = read_sums(folder / "sums.jsonl")
        return Outcome(
            result=result,
            model=tensors["model"],
            statistics=statistics,
            metrics=sums.get(("evaluate test", rounds), {}),
            personal=sums.get(("evaluate personal", rounds), {}),
        )

    def _folder(self, member: str) -> Path:
        return self.project.config_path.parent / "nodes" / member / "runs" / self.manifest.run

    def witness(self) -> int:
        """Let the members cosign the coordinator's ledger as it is; how many did."""
        return coordinator.witness(
            self.manifest,
            transport=self.transport,
            ledger=self.notes.recorder,
            observer=self.notes,
        )

    def again(self, run: str, *, restarted: bool = False) -> "Direct":
        """The same installations and the same ledger, ready for another run.

        Args:
            run: Its id.
            restarted: Whether each node starts anew, with nothing but its folder.
        """
        nodes = {
            place: Node(node._settings) if restarted else node for place, node in self.nodes.items()
        }
        return replace(
            self,
            manifest=replace(self.manifest, run=run),
            nodes=nodes,
            transport=type(self.transport)(nodes),
            notes=Notes(self.notes.recorder),
        )

    def bundle(self) -> Bundle:
        """All ledgers, each with its newest state signed by its key."""
        own = self.notes.recorder
        coordinator_view = LedgerView(
            origin=own.origin, owner="coordinator", role="coordinator", dataset="", store=own.store
        )
        settings = {node.member: node._settings for node in self.nodes.values()}
        views = [
            LedgerView(
                origin=log_origin(node.member, settings[node.member].identity.public),
                owner=node.member,
                role="node",
                dataset=self.project.contract.name,
                store=node._ledger,
            )
            for node in self.nodes.values()
            if node._ledger.size()
        ]
        identities = {view.origin: settings[view.owner].identity for view in views}
        evidence = Evidence(federation="direct", coordinator=coordinator_view, nodes=tuple(views))
        return to_bundle(evidence, {own.origin: own.identity, **identities})

    def verdict(self) -> Verdict:
        """What an auditor who knows the coordinator's key finds in all ledgers."""
        policy = TrustPolicy(logs=(self.notes.recorder.key,))
        return verify_bundle(self.bundle(), policy=policy)

    def models(self) -> dict[str, bytes]:
        """Member -> hash of the final model that it wrote down."""
        return {
            node.member: vector_digest(load_model(self._folder(node.member) / "model.safetensors"))
            for node in self.nodes.values()
            if (self._folder(node.member) / "model.safetensors").exists()
        }


def assemble(
    config: Path,
    root: Path,
    *,
    seed: int = 0,
    policy: NodePolicy | None = None,
    notes: Notes | None = None,
) -> Direct:
    """Make identities, nodes and a manifest for a small federation.

    Args:
        config: The run's.
        root: Where data and nodes' folders are.
        seed: Of initial model and shuffling.
        policy: Of all nodes.
        notes: The coordinator's ledger; None for a new one, in memory.
    """
    kept = notes or Notes()
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
        protection=project.config.protection.sum,
        suite=project.config.protection.suite or "intl",
        group_size=project.config.group_size,
        privacy=project.privacy_plan(),
        ledger={"origin": kept.recorder.origin, "key": kept.recorder.identity.public.hex()},
        node_settings=project.config.node_settings(seed=seed, fold=None),
        coordinator_settings=project.config.coordinator_settings(),
    )
    nodes = {
        100 + i: Node(
            NodeSettings(
                member=member,
                identity=keys[member],
                launcher=launcher.public,
                known={name: key.public for name, key in keys.items()},
                own_machine=True,
                contract=contract,
                rows=lambda _, own=own: own,  # type: ignore[misc]
                policy=policy or NodePolicy(),
                home=root / "nodes" / member,
                device="cpu",
            )
        )
        for i, (member, own) in enumerate(rows.items())
    }
    return Direct(project, manifest, launcher, nodes, DirectTransport(nodes), kept)
