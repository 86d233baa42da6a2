"""Small federations in which a party may be hostile: real nodes, the real coordinator.

No framework: learning is stood in for (`simulation.learning`). An opened sum says by itself who is
in it, and how often. Keys come from the seed, so that a seed attacks the same federation again.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

import numpy as np
from hostile_parties.observer import Observer
from simulation import learning
from simulation.clock import SimClock
from simulation.disk import SimLedger
from support import tables
from support.direct import Direct, Notes, recorder
from support.sums import WatchedTransport

import aggregator.inviting
import aggregator.opening
import aggregator.returning
import clients.admission
import clients.learning
import clients.node
import privacy.signature
from clients.node import Node
from clients.node_settings import NodeSettings
from clients.policy import BudgetPolicy, NodePolicy
from federation.config import Project, load_project
from privacy.identity import Identity
from privacy.manifest import Manifest, Protection
from privacy.messages import Reply, Request
from privacy.plan import PrivacyPlan
from privacy.suites import SuiteId

NAMES = ("bank", "east", "mill", "north", "south", "west", "farm")
"""In the order in which they take part; `mill` is the one that the tables call hostile."""
NOISE = {"multiplier": 1.0, "delta": 1e-4, "noise": "distributed", "colluders": 1}
_PROTECTIONS: tuple[Protection, ...] = ("masked", "masked", "masked", "sealed")
_SUITES: tuple[SuiteId, ...] = ("intl", "intl", "intl", "hybrid", "gm")
CAP = 2.6
"""Of a node's budget: holds one run, and not two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a federation is like.

    Attributes:
        members: How many.
        protection: Of its sums.
        suite: Its algorithms.
        noise: Whether it has a privacy plan, and its nodes a cap.
        rounds: Of training.
        kept: Whether nodes keep their run on disk.
        countersigned: Whether a second member signs the manifest.
    """

    members: int = 6
    protection: Protection = "masked"
    suite: SuiteId = "intl"
    noise: bool = False
    rounds: int = 2
    kept: bool = False
    countersigned: bool = False


def options_of(draw: Random) -> Options:
    """A federation as chance has it."""
    return Options(
        members=draw.choice((4, 5, 6, 6, 7)),
        protection=draw.choice(_PROTECTIONS),
        suite=draw.choice(_SUITES),
        noise=draw.random() < 0.3,
        rounds=draw.choice((1, 2)),
        kept=draw.random() < 0.3,
        countersigned=draw.random() < 0.3,
    )


@cache
def _project(options: Options) -> tuple[Project, PrivacyPlan | None]:
    protection: dict[str, str] = {"sum": options.protection}
    if options.suite != "intl":
        protection["suite"] = options.suite
    changes: dict[str, Any] = {
        "training": {"rounds": options.rounds},
        "min_members": max(3, options.members - 1),
        "protection": protection,
        "update": {"weigh_by": "members", "clip_l2": 3.0},
    }
    if options.noise:
        changes |= {"privacy": NOISE, "update": {}, "server": {"learning_rate": 0.1}}
    with tempfile.TemporaryDirectory() as folder:
        where = tables.write(
            Path(folder), rows=tables.table("binary", rows=40), config_changes=changes
        )
        project = load_project(where.config)
        return project, project.privacy_plan()


def assembled(options: Options, *, seed: int, root: Path) -> Direct:
    """Nodes that know each other, and a manifest; nothing is asked yet."""
    entropy = Random(f"entropy {seed}").randbytes
    project, plan = _project(options)
    notes = Notes(recorder(SimLedger("the ledger", _nothing, _never), Identity.create(entropy)))
    launcher = Identity.create(entropy)
    members = sorted(NAMES[: options.members])
    keys = {name: Identity.create(entropy) for name in members}
    policy = NodePolicy(
        sums=(options.protection,),
        colluders=1,
        budgets=(BudgetPolicy(epsilon=CAP, delta=1e-4),) if options.noise else (),
    )
    nodes: dict[int, Node] = {}
    for place, name in enumerate(members):
        settings = NodeSettings(
            member=name,
            identity=keys[name],
            launcher=launcher.public,
            known={other: key.public for other, key in keys.items()},
            own_machine=True,
            contract=project.contract,
            rows=lambda _: learning.rows_of(""),
            policy=policy,
            home=root / name,
            device="cpu",
            sessions=options.kept,
        )
        settings.home.mkdir()
        nodes[100 + place] = Node(settings, entropy=entropy)
    manifest = Manifest(
        run="run-0",
        name=project.config.name,
        task=project.config.task,
        unit=project.contract.unit,
        contract=project.contract.digest,
        directory={name: key.public.hex() for name, key in keys.items()},
        minimum_cohort=project.config.minimum_cohort,
        protection=options.protection,
        suite=options.suite,
        group_size=0,
        privacy=plan,
        ledger={
            "origin": notes.recorder.origin,
            "key": notes.recorder.identity.public.hex(),
        },
        node_settings=project.config.node_settings(seed=0, fold=None),
        coordinator_settings=project.config.coordinator_settings(
            countersigned=options.countersigned
        ),
    )
    return Direct(project, manifest, launcher, nodes, WatchedTransport(nodes), notes)


_verifies = lru_cache(maxsize=8192)(privacy.signature._verifies)


@contextmanager
def stood_in(  # noqa: C901 - one stand-in after the other
    observer: Observer,
    poison: Callable[[str, Any], Any] | None = None,
    plant: Callable[[ExitStack], None] | None = None,
) -> Iterator[None]:
    """Put the stand-ins in place, and let the observer see what honest nodes say and open.

    Args:
        observer: Sees it.
        poison: What a member adds to a sum in place of its own vector.
        plant: Changes the product, for twins that plant a fault.
    """
    clock = SimClock()

    def later(when_s: float) -> None:
        clock.now_s = when_s

    clock.pass_to = later

    def covered(node: Node, session: Any, step: Any, values: Any) -> Any:  # noqa: ANN401
        del values
        vector = learning.own_vector(
            observer.names.index(node.member), step, session.manifest.privacy
        )
        if poison is not None:
            vector = poison(node.member, vector)
        observer.gives(node.member, (session.manifest.run, step.name, step.round), vector)
        return vector

    opened = Node._opened

    def open_and_tell(node: Node, session: Any, step: Any, shown: Any) -> Any:  # noqa: ANN401
        sums = opened(node, session, step, shown)
        for (part, _, context, _), (total, members) in zip(shown, sums, strict=True):
            observer.opens(
                node.member,
                (session.manifest.run, step.name, step.round),
                context,
                part.survivors,
                total,
                step.layout.worst_error(members),
            )
        return sums

    handle = Node.handle

    def heard(node: Node, request: Request, payload: bytes = b"") -> tuple[Reply, bytes]:
        observer.asks(node.member, request)
        reply, answer = handle(node, request, payload)
        observer.left(node.member, request, reply, answer)
        return reply, answer

    def none_trained(node: Node, session: Any, _: object) -> Any:  # noqa: ANN401
        del node
        return np.zeros(session.model.current.size + 1)

    ledgers: dict[Path, SimLedger] = {}

    def ledger(path: Path) -> SimLedger:
        path.touch()
        made = ledgers.setdefault(path, SimLedger(path.parent.name, _nothing, _never))
        observer.ledgers[path.parent.name] = made
        return made

    with ExitStack() as stack:

        def change(of: object, name: str, to: object) -> None:
            stack.enter_context(mock.patch.object(of, name, to))

        for module in (aggregator.inviting, aggregator.opening, aggregator.returning):
            change(module, "time", clock)
        # all members verify the same signatures; each is computed once
        change(privacy.signature, "_verifies", _verifies)
        change(clients.node, "SqliteLedger", ledger)
        for module in (clients.node, clients.admission):
            change(module, "Learner", learning.StandIn)
        change(clients.node, "read_usable", lambda s, *_: learning.rows_of(s.member))
        change(clients.node, "rows_digest", lambda rows, **_: rows.member.encode().ljust(32))
        change(clients.learning, "to_vector", lambda _: np.zeros(learning.WEIGHTS, np.float32))
        change(Node, "_covered", covered)
        change(Node, "_opened", open_and_tell)
        change(Node, "_trained", none_trained)
        change(Node, "_evaluated", lambda *_: np.zeros(learning.WEIGHTS))
        change(clients.learning, "make_examples", learning.no_examples)
        if plant is not None:
            plant(stack)
        change(Node, "handle", heard)
        yield


def _nothing(_: str) -> None:
    """Disks that never stop."""


def _never(_: str) -> bool:
    return False
