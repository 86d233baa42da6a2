"""What do wrong updates do to a run, and what do groups and undone rounds help? See README.md.

    python experiments/robustness/run.py [--data FOLDER] [--sets cmapss uci] [--seeds 0 1]
    python experiments/robustness/run.py --quick    # generated data, a minute
    python experiments/robustness/run.py --table    # the tables of result.json, and its plot

A run is the real coordinator and twelve real nodes in one process; every message is packed and
unpacked. A hostile member is a node whose own code was changed: what it sends is well formed.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402 - after the threads are set
import torch  # noqa: E402
from thresholds import faults  # noqa: E402

from aggregator import coordinator  # noqa: E402
from aggregator.ports import Answer  # noqa: E402
from clients.examples import Examples  # noqa: E402
from clients.members import MemberRows, read_members  # noqa: E402
from clients.model import from_vector  # noqa: E402
from clients.node import Node  # noqa: E402
from clients.node_settings import NodeSettings  # noqa: E402
from clients.policy import NodePolicy  # noqa: E402
from clients.session import WATCH, Session, Step  # noqa: E402
from federation.config import Project, ProtectionSpec, data_root, load_project  # noqa: E402
from federation.declaration import declaration  # noqa: E402
from federation.ledger_recorder import LedgerRecorder  # noqa: E402
from privacy.errors import TacitError  # noqa: E402
from privacy.identity import Identity  # noqa: E402
from privacy.ledger.memory import MemoryLedger  # noqa: E402
from privacy.ledger.store import entries_of  # noqa: E402
from privacy.manifest import SIGNING_DOMAIN, Manifest  # noqa: E402
from privacy.messages import (  # noqa: E402
    Ready,
    Refused,
    Reply,
    Request,
    pack,
    unpack_reply,
    unpack_request,
)
from privacy.randomness import Entropy  # noqa: E402
from privacy.tally import BINS, HEADLINE, metrics, tally_length  # noqa: E402

ROLLBACK = 0.2
MODES: Mapping[str, ProtectionSpec] = {
    "plain": ProtectionSpec(),
    "groups": ProtectionSpec(robust="groups"),
    "rollback": ProtectionSpec(rollback=ROLLBACK),
    "both": ProtectionSpec(robust="groups", rollback=ROLLBACK),
}
ATTACKS = ("sign flip", "scaling", "label flip")
# one member each, on what the modes themselves rely on
LATE = "scaling from half-way"
PROBES = (LATE, "negative weight", "scaling, canary fooled", "canary slandered")
MOST_HOSTILE = 3
LIE = 1e7  # rows that a lying tally claims


@dataclass(frozen=True)
class DataSet:
    """Which config, and what of it is shortened."""

    title: str
    config: Path
    rounds: int
    average_last: int


SETS = {
    "cmapss": DataSet("C-MAPSS", ROOT / "configs" / "failure_cmapss.yaml", 20, 5),
    "uci": DataSet("UCI credit", ROOT / "configs" / "credit_uci.yaml", 20, 5),
}
QUICK = {
    "generated": DataSet(
        "generated machines", ROOT / "federation" / "scenarios" / "failure.yaml", 4, 2
    )
}


@dataclass(frozen=True)
class Task:
    """One run."""

    data: str
    mode: str
    attack: str
    hostile: int
    seed: int


# -- members that do harm ---------------------------------------------------------------------


class Kept(Node):
    """An honest node that keeps its last session, so that its test rows can be scored."""

    session: Session | None = None

    def _finish(self, session: Session) -> Ready:
        self.session = session
        return super()._finish(session)


class Hostile(Kept):
    """A node that sends what it likes, in the form that is asked for."""

    def __init__(self, settings: NodeSettings, *, entropy: Entropy, attack: str) -> None:
        super().__init__(settings, entropy=entropy)
        self._attack = attack

    def _trained(self, session: Session, round_index: int) -> np.ndarray:
        if round_index == 1 and self._attack == "label flip":
            session.training = _flipped(session, session.training)
            session.watching = _flipped(session, session.watching)
        own = super()._trained(session, round_index)
        change, weight = own[:-1], own[-1:]
        clip = session.spec.update.clip
        if self._attack == LATE and round_index <= session.spec.training.rounds // 2:
            return own
        if self._attack == "sign flip":
            return np.concatenate([-change, weight])
        if self._attack.startswith("scaling"):
            # as far as the number format goes, at the largest weight there is
            return np.append(np.where(change > 0, -clip, clip), clip)
        if self._attack == "negative weight":
            return np.append(np.where(change > 0, -clip, clip), -clip)
        return own

    def _evaluated(self, session: Session, step: Step) -> np.ndarray:
        own = super()._evaluated(session, step)
        if step.name == WATCH and self._attack == "scaling, canary fooled":
            return _lie(session, good=True)
        if step.name == WATCH and self._attack == "canary slandered" and step.round > 1:
            return _lie(session, good=False)
        return own


def _flipped(session: Session, examples: Examples | None) -> Examples | None:
    if examples is None:
        return None
    highest = session.learner.target.scale if session.learner.kind == "life" else 1.0
    target = highest - examples.target
    return replace(examples, target=target, target_raw=target)


def _lie(session: Session, *, good: bool) -> np.ndarray:
    """A tally of rows that do not exist, all of them right or all of them wrong."""
    kind, groups = session.learner.kind, session.learner.groups
    lie = np.zeros(tally_length(kind, groups))
    if kind == "life":
        lie[0] = LIE
        lie[2] = 0.0 if good else 1e4 * LIE  # squared errors against capped labels
    else:
        lie[0 if good else BINS - 1] = LIE  # negative rows
        lie[2 * BINS - 1 if good else BINS] = LIE  # positive rows
    return lie


# -- a federation in one process --------------------------------------------------------------


@dataclass
class Calls:
    """Carries requests to nodes by function calls."""

    members: Mapping[int, Node]

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
        return {
            address: unpack_reply(
                pack(*self._handled(self.members[address], *unpack_request(pack(*asked))))
            )
            for address, asked in requests.items()
        }

    @staticmethod
    def _handled(node: Node, request: Request, payload: bytes) -> tuple[Reply, bytes]:
        try:
            return node.handle(request, payload)
        except TacitError as refusal:
            return Refused(member=node.member, reason=str(refusal)), b""


@dataclass
class Notes:
    """The run's observer."""

    given_up: int = 0

    def step(self, name: str) -> None:
        del name

    def round(self, index: int, *, watched: bool, facts: Mapping[str, float]) -> None:
        del index, watched, facts

    def answered(self, member: str, answer: str, reason: str) -> None:
        del member, answer, reason

    def note(self, sentence: str) -> None:
        self.given_up += "was given up" in sentence


def seeded(*words: object) -> Entropy:
    """Bytes that are the same every time, so that groups are too. For experiments alone."""
    entropy = [int.from_bytes(str(word).encode()) for word in words]
    return np.random.default_rng(entropy).bytes


def project_of(data: DataSet, mode: str) -> Project:
    project = load_project(data.config)
    protection = MODES[mode]
    config = project.config
    config = config.model_copy(
        update={
            "training": config.training.model_copy(update={"rounds": data.rounds}),
            "average_last": data.average_last,
            "protection": protection,
            # only undone rounds depend on it
            "watch_every": 1 if protection.rollback else data.rounds,
        }
    )
    return project.model_copy(update={"config": config})


def hostile_of(members: Sequence[str], seed: int) -> list[str]:
    """The members in the order in which they turn hostile: the same for all modes and attacks."""
    return [str(name) for name in np.random.default_rng(seed).permutation(sorted(members))]


def federate(task: Task, data: DataSet, rows: Mapping[str, MemberRows], home: Path) -> dict:
    project = project_of(data, task.mode)
    config, contract = project.config, project.contract
    order = hostile_of(list(rows), task.seed)
    turned = order[: task.hostile]
    launcher = Identity.create(seeded("launcher", task.seed))
    keys = {member: Identity.create(seeded(member, task.seed)) for member in rows}
    # in memory: what a run costs on record is no question here
    ledger = LedgerRecorder(MemoryLedger(), Identity.create(seeded("coordinator", task.seed)))
    manifest = Manifest(
        run="robustness",
        name=config.name,
        task=config.task,
        unit=contract.unit,
        contract=contract.digest,
        directory={member: key.public.hex() for member, key in keys.items()},
        minimum_cohort=config.minimum_cohort,
        protection=config.protection.sum,
        privacy=None,
        group_size=config.group_size,
        ledger={"origin": ledger.origin, "key": ledger.identity.public.hex()},
        node_settings=config.node_settings(seed=task.seed, fold=None),
        coordinator_settings=config.coordinator_settings(),
    )
    nodes: dict[int, Kept] = {}
    for i, (member, own) in enumerate(rows.items()):
        settings = NodeSettings(
            member=member,
            identity=keys[member],
            launcher=launcher.public,
            known={name: key.public for name, key in keys.items()},
            own_machine=True,
            contract=contract,
            rows=lambda _, own=own: own,
            policy=NodePolicy(),
            home=home / member,
            device="cpu",
        )
        entropy = seeded("node", member, task.seed)
        nodes[100 + i] = (
            Hostile(settings, entropy=entropy, attack=task.attack)
            if member in turned
            else Kept(settings, entropy=entropy)
        )
    notes = Notes()
    found: dict = {"hostile_members": sorted(turned)}
    try:
        result = coordinator.run(
            manifest,
            launcher.sign(SIGNING_DOMAIN, manifest.to_bytes()),
            launcher=launcher.public,
            data=declaration(contract),
            transport=Calls(nodes),
            ledger=ledger,
            observer=notes,
        )
    except TacitError as fault:
        kinds = [entry.kind for entry in entries_of(ledger.store.leaves())]
        stopped = kinds.count("round.committed") + 1
        return found | {"stopped_in_round": stopped, "reason": str(fault)[:400]}
    sessions = {n.member: n.session for n in nodes.values() if n.session is not None}
    groups = next(iter(sessions.values())).agreed.groups
    found["groups_hit"] = sum(bool(set(turned) & set(g.members)) for g in groups)
    found["groups"] = len(groups)
    return found | {"undone": result.undone, **scores(sessions, order, task.hostile)}


def scores(sessions: Mapping[str, Session], order: Sequence[str], hostile: int) -> dict:
    """The final model on the members' own test rows, tallied here and not in the run.

    A hostile member's part in the run's own evaluation is whatever it likes.
    """
    tallies = {}
    for member, session in sessions.items():
        from_vector(session.learner.network, session.model.average)
        tallies[member] = session.learner.tally(session.test, exact=True)
    learner = next(iter(sessions.values())).learner
    name = HEADLINE[learner.kind][0]

    def over(members: Collection[str]) -> float | None:
        total = np.sum([tallies[member] for member in sorted(members)], axis=0)
        return metrics(learner.kind, total, learner.groups).get(name)

    return {
        "headline": name,
        "honest": over(set(tallies) - set(order[:hostile])),
        "all": over(set(tallies)),
        # the same rows where a table compares a run with one that nobody attacked
        "without_the_first": [over(set(tallies) - set(order[:f])) for f in range(MOST_HOSTILE + 1)],
        "by_member": {member: over({member}) for member in sorted(tallies)},
    }


# -- the table --------------------------------------------------------------------------------

_ROWS: dict[str, dict[str, MemberRows]] = {}


def read(sets: Mapping[str, DataSet], root: Path) -> None:
    """Read each set once a process."""
    torch.set_num_threads(1)
    for name, data in sets.items():
        _ROWS[name] = read_members(load_project(data.config).contract, root)


def work(task: Task, data: DataSet) -> tuple[Task, dict]:
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as home:
        found = federate(task, data, _ROWS[task.data], Path(home))
    return task, found | {"seconds": round(time.perf_counter() - began, 1)}


def tasks(
    sets: Collection[str], modes: Collection[str], seeds: Sequence[int], most: int
) -> Iterator[Task]:
    """All runs, the first seed first, so that a table can be read early."""
    for seed in seeds:
        for name in sets:
            for mode in modes:
                yield Task(name, mode, "none", 0, seed)
                for attack in ATTACKS:
                    for hostile in range(1, most + 1):
                        yield Task(name, mode, attack, hostile, seed)
                for attack in PROBES:
                    # nobody asks the canary where no round is undone
                    if MODES[mode].rollback or "canary" not in attack:
                        yield Task(name, mode, attack, 1, seed)


def summary(rows: Sequence[Mapping[str, object]]) -> list[dict]:
    """One entry a data set, mode, attack and f; lists are over the seeds, None where it stopped."""
    out = []
    for key in sorted({(r["data"], r["mode"], r["attack"], r["hostile"]) for r in rows}):
        same = [r for r in rows if (r["data"], r["mode"], r["attack"], r["hostile"]) == key]
        one = dict(zip(("data", "mode", "attack", "hostile"), key, strict=True))
        one["seeds"] = [r["seed"] for r in same]
        for name in ("honest", "all", "undone", "groups_hit"):
            one[name] = [r.get(name) for r in same]
        if one["hostile"] == 0:
            one["without_the_first"] = [r["without_the_first"] for r in same]
        out.append(one)
    return out


def numbers(values: Sequence[float | None], digits: int = 0) -> str:
    return " / ".join("stopped" if v is None else f"{v:.{digits}f}" for v in values)


def cell(one: Mapping | None, digits: int, part: str) -> str:
    if one is None:
        return ""
    text = numbers(one[part], digits)
    if MODES[one["mode"]].robust == "groups" and one["hostile"] > 1:
        text += f"; hit {numbers(one['groups_hit'])}"
    if any(one["undone"]):
        text += f"; undone {numbers(one['undone'])}"
    return text


def tables(result: Mapping, part: str) -> str:
    """Markdown; one table a data set."""
    lines = []
    by = {(s["data"], s["mode"], s["attack"], s["hostile"]): s for s in result["summary"]}
    modes = [mode for mode in MODES if any(key[1] == mode for key in by)]
    for name, about in result["sets"].items():
        digits = about["digits"]
        better = "higher" if about["higher_is_better"] else "lower"
        lines += [
            f"### {about['title']}: {about['headline']}, {better} is better",
            "",
            f"| attack | f | nobody attacks, same rows | {' | '.join(modes)} |",
            "|---|---|---" + "|---" * len(modes) + "|",
        ]
        quiet = by[name, "plain", "none", 0]
        for attack, hostile in [
            ("none", 0),
            *((attack, f) for attack in ATTACKS for f in range(1, MOST_HOSTILE + 1)),
            *((attack, 1) for attack in PROBES),
        ]:
            found = [by.get((name, mode, attack, hostile)) for mode in modes]
            if not any(found):
                continue
            same = [rows[hostile if part == "honest" else 0] for rows in quiet["without_the_first"]]
            lines.append(
                f"| {attack} | {hostile} | {numbers(same, digits)} | "
                + " | ".join(cell(one, digits, part) for one in found)
                + " |"
            )
        lines.append("")
    return "\n".join(lines)


def draw(result: Mapping, path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    by = {(s["data"], s["mode"], s["attack"], s["hostile"]): s for s in result["summary"]}
    modes = [mode for mode in MODES if any(key[1] == mode for key in by)]
    sets = result["sets"]
    figure, axes = plt.subplots(
        len(sets),
        len(ATTACKS),
        figsize=(12, 3.4 * len(sets)),
        layout="constrained",
        squeeze=False,
        sharey="row",
    )
    for across, (name, about) in zip(axes, sets.items(), strict=True):
        for axis, attack in zip(across, ATTACKS, strict=True):
            for mode, mark in zip(modes, "osv^", strict=False):
                points = [
                    (f, by.get((name, mode, attack if f else "none", f)))
                    for f in range(MOST_HOSTILE + 1)
                ]
                points = [
                    (f, statistics.mean(one["honest"]))
                    for f, one in points
                    if one and None not in one["honest"]
                ]
                axis.plot(*zip(*points, strict=True), f"{mark}-", label=mode, alpha=0.8)
            axis.set(title=f"{about['title']}, {attack}", xlabel="hostile members of 12")
            axis.set(ylabel=about["headline"], xticks=range(MOST_HOSTILE + 1))
            if not about["higher_is_better"]:
                axis.set_yscale("log", base=2)
                axis.yaxis.set_major_formatter("{x:.0f}")
            axis.grid(visible=True, alpha=0.3)
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.savefig(path, dpi=110)


def judged(result: Mapping) -> int:
    """Say which thresholds do not hold; 1 where any does not."""
    broken = faults(result)
    print("\n".join(broken) or "all thresholds hold")
    return 1 if broken else 0


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, help="default: TACIT_DATA, else ../shared/data")
    parser.add_argument("--sets", nargs="*", choices=SETS, default=list(SETS))
    parser.add_argument("--modes", nargs="*", choices=MODES, default=list(MODES)[:3])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument(
        "--quick", action="store_true", help="generated data, f = 0 and 1; writes nothing"
    )
    parser.add_argument("--out", type=Path, help="default: here; with --quick: nowhere")
    parser.add_argument("--rows", choices=("honest", "all"), default="honest", help="of the tables")
    parser.add_argument("--table", action="store_true", help="runs nothing; reads result.json")
    asked = parser.parse_args()
    if asked.table:
        folder = asked.out or HERE
        result = json.loads((folder / "result.json").read_text())
        result["summary"] = summary(result["runs"])
        print(tables(result, asked.rows))
        draw(result, folder / "plot.png")
        return judged(result)
    out = asked.out or (None if asked.quick else HERE)
    with tempfile.TemporaryDirectory() as generated:
        if asked.quick:
            from federation.scenarios.generate import generate

            sets, root = QUICK, Path(generated)
            generate(root, seed=0, scenario="failure", size=0.3)
        else:
            sets, root = {name: SETS[name] for name in asked.sets}, data_root(asked.data)
        most = 1 if asked.quick else MOST_HOSTILE
        wanted = list(tasks(sets, asked.modes, asked.seeds, most))
        result = run_all(wanted, sets, root, processes=asked.processes, out=out)
    print(tables(result, asked.rows))
    if out is not None:
        draw(result, out / "plot.png")
    # the thresholds are for the published sets; four rounds of generated machines are too few
    return 0 if asked.quick else judged(result)


def run_all(
    wanted: Sequence[Task],
    sets: Mapping[str, DataSet],
    root: Path,
    *,
    processes: int,
    out: Path | None,
) -> dict:
    """Run what result.json does not hold yet; it is written after each run."""
    path = out / "result.json" if out is not None else None
    if path is not None and path.exists():
        result = json.loads(path.read_text())
    else:
        result = {"rollback": ROLLBACK, "sets": {}, "summary": [], "runs": []}
    result["date"] = f"{datetime.now(UTC):%Y-%m-%d}"
    there = {Task(**{name: run[name] for name in Task.__annotations__}) for run in result["runs"]}
    wanted = [task for task in wanted if task not in there]
    with ProcessPoolExecutor(
        processes,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=read,
        initargs=(sets, root),
    ) as pool:
        waiting = [pool.submit(work, task, sets[task.data]) for task in wanted]
        for done_so_far, done in enumerate(as_completed(waiting), 1):
            task, found = done.result()
            result["runs"].append(vars(task) | found)
            result["runs"].sort(
                key=lambda r: (r["data"], r["seed"], r["attack"], r["hostile"], r["mode"])
            )
            if "headline" in found and task.data not in result["sets"]:
                higher = dict(HEADLINE.values())[found["headline"]]
                result["sets"][task.data] = {
                    "title": sets[task.data].title,
                    "rounds": sets[task.data].rounds,
                    "average_last": sets[task.data].average_last,
                    "headline": found["headline"],
                    "higher_is_better": higher,
                    "digits": 3 if higher else 1,
                }
            result["summary"] = summary(result["runs"])
            told = found.get("honest", found.get("reason"))
            print(f"{done_so_far}/{len(waiting)}", *vars(task).values(), told, flush=True)
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(result, indent=1) + "\n")
    return result


if __name__ == "__main__":
    sys.exit(main())
