"""A run with all its nodes on this machine: identities, manifests, the engine, what is kept.

The nodes are as separate as on a network: own process state, own identity, own folder, and every
message in Flower's encoding. The launcher signs the manifest; each node checks it by itself.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from aggregator import coordinator
from aggregator.coordinator import RunResult
from clients.gate_rows import gate_rows
from clients.judgement import Judgement
from clients.members import member_names
from clients.targets import tally_kind, target_unit
from federation.card import keep_card, make_card
from federation.compliance import (
    Finding as RuleFinding,
)
from federation.compliance import (
    Rule,
    findings_facts,
    findings_line,
    load_rules,
    plan_findings,
    require_lawful,
    rules_digest,
    warned,
)
from federation.config import Project
from federation.coordinator_key import Settled, settle_key
from federation.declaration import declaration
from federation.engine.worker import LocalNode
from federation.fold_mean import fold_mean
from federation.gate_here import judgements_here
from federation.home import Home, read_json, write_json
from federation.importance_shown import outcome_of
from federation.kept_identity import kept_identity
from federation.ledger_place import open_store
from federation.ledger_recorder import LedgerRecorder
from federation.noise_spec import warnings
from federation.record import RunFolder, read_importance, read_sums
from federation.run_manifest import make_manifest
from federation.runs.observer import printable
from federation.spending import account, receipts_of
from privacy.empirical import Finding, audit, canaries_within
from privacy.errors import CohortError, InputError, RefusedError, TacitError
from privacy.identity import Identity
from privacy.ledger.store import LedgerStore, head_of
from privacy.manifest import SIGNING_DOMAIN, Manifest, Protection
from privacy.plan import PrivacyPlan, shares_of
from privacy.randomness import system_bytes
from privacy.secure_sum.schemes import scheme_of
from privacy.tally import HEADLINE, metrics

if TYPE_CHECKING:
    from federation.engine.local_grid import LocalGrid
    from federation.engine.simulation import SimulationGrid

Floats = NDArray[np.float64]
AUDIT_S = 3.0
_EARLIER = "ledger.jsonl"
STOPPED_BY_HAND = "stopped by hand (Ctrl-C)"


class Display(Protocol):
    """Shows a person how a launch goes; the default shows nothing."""

    def step(self, name: str) -> None:
        """A step began."""

    def round(
        self, index: int, of: int, metrics: Mapping[str, float], facts: Mapping[str, float]
    ) -> None:
        """A round was committed."""

    def baseline(self, done: int, of: int) -> None:
        """One more baseline is trained."""

    def note(self, sentence: str) -> None:
        """Something went otherwise: a member is away, a round was undone."""


class Silent:
    """A display that shows nothing."""

    def step(self, name: str) -> None:
        """Nothing."""

    def round(
        self, index: int, of: int, metrics: Mapping[str, float], facts: Mapping[str, float]
    ) -> None:
        """Nothing."""

    def baseline(self, done: int, of: int) -> None:
        """Nothing."""

    def note(self, sentence: str) -> None:
        """Nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchOptions:
    """How to launch.

    Attributes:
        data_root: Where the contract's paths begin.
        seed: Of initial model and shuffling.
        baselines: Also train each member alone, and all rows pooled.
        workers: Processes; None takes all cores.
        device: `auto`, `cpu` or `cuda`.
        allowed: Ways to protect sums that the nodes permit besides those of their policy.
        rules: What the run is held against; None: the home's rules.
        engine: `embedded`, or `ray`: Flower's simulation engine, also over several machines.
    """

    data_root: Path
    seed: int = 0
    baselines: bool = False
    workers: int | None = None
    device: str = "auto"
    allowed: tuple[Protection, ...] = ()
    rules: tuple[Rule, ...] | None = None
    engine: Literal["embedded", "ray"] = "embedded"


@dataclass(kw_only=True)
class _Watch:
    """`aggregator.ports.Observer` that keeps rounds and shows them."""

    folder: RunFolder
    display: Display
    rounds: int
    fold: int | None
    sums: Sequence[Path]
    seconds: list[float] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)

    def step(self, name: str) -> None:
        self.folder.log(name)
        self.display.step(name)

        self.started = time.perf_counter()

    def round(self, index: int, *, watched: bool, facts: Mapping[str, float]) -> None:
        now = time.perf_counter()
        self.seconds.append(now - self.started)
        self.started = now
        # what was opened is in the members' hands alone, and one of them is on this machine
        metrics: Mapping[str, float] = {}
        for sums in self.sums if watched else ():
            metrics = read_sums(sums).get(("evaluate watch", index), {})
            if metrics:
                break
        fold = {} if self.fold is None else {"fold": self.fold}
        seconds = self.seconds[-1]
        kept = {"round": index, **fold, "metrics": dict(metrics), "seconds": seconds, **facts}
        self.folder.round(kept)
        shown = ", ".join(f"{name} {value:.6g}" for name, value in metrics.items())
        self.folder.log(f"round {index} committed in {seconds:.2f} s {shown}".rstrip())
        self.display.round(index, self.rounds, metrics, {"seconds": seconds, **facts})

    def answered(self, member: str, answer: str, reason: str) -> None:
        self.folder.log(f"{member}: {answer} {reason}".rstrip())

    def note(self, sentence: str) -> None:
        self.folder.log(sentence)
        self.display.note(sentence)


def launch_local(
    project: Project, home: Home, options: LaunchOptions, display: Display | None = None
) -> dict[str, Any]:
    """Run a federation on this machine and keep what it leaves.

    Returns:
        What `tacit run launch --json` prints; also kept as the run's result.json.

    Raises:
        TacitError: The run cannot be started, was refused by a member, or failed; nothing is half
            written, and the ledger says why.
    """
    show = display or Silent()
    law = _law(project, home, options, show)
    with home.exclusive():
        started = time.perf_counter()
        members = member_names(project.contract, options.data_root)
        plan = project.privacy_plan()
        project.layout(len(members), plan)
        for sentence in warnings(project.config.privacy, members=len(members)):
            show.note(sentence)
        _refuse_earlier(home)
        settled = settle_key(home)
        if settled is not Settled.NOTHING:
            show.note(settled.value)
        launcher = kept_identity(home.launcher, system_bytes)
        known = {member: _enrol(home, project, member) for member in members}
        nodes = [
            LocalNode(
                member=member,
                home=home.node(project.contract.name, member),
                federation=home.root,
                contract=project.contract_path,
                data_root=options.data_root,
                launcher=launcher.public,
                known=known,
                device=options.device,
                allowed=options.allowed,
            )
            for member in members
        ]
        # before there is a run: where the ledger cannot be used, none begins
        ledger = LedgerRecorder(
            open_store(home.ledger_place), kept_identity(home.coordinator, system_bytes)
        )
        run = home.new_run(project.config.name, datetime.now(UTC))
        folder = RunFolder(path=home.runs / run)
        folder.begin(
            project.config_path,
            project.contract_path,
            {"name": project.config.name, "task": project.config.task, "seed": options.seed},
        )
        work = _Launch(project, home, options, show, run, folder, ledger, launcher, plan, law)
        # as the nodes are about to find it: what a person decides later is of later runs
        judgements = _judgements(project, home, options)
        try:
            with work.started(nodes) as grid:
                outcome = work.carry_out(grid, nodes, started)
                finding = work.audit()
                if finding is not None:
                    outcome["privacy"]["audit"] = finding.to_json()
                outcome["rules"] = {"digest": law.digest, "findings": findings_facts(law.findings)}
                outcome["card"] = str(work.card(outcome))
                work.register(grid)
            write_json(folder.path / "result.json", outcome)
            folder.state("finished", name=project.config.name, task=project.config.task)
        except KeyboardInterrupt:
            work.stop(STOPPED_BY_HAND)
            raise
        except TacitError as failure:
            work.stop(str(failure))
            raise
        except BaseException:
            work.stop("failed inside")
            raise
        if finding is not None:
            # all is kept; but nobody may use a model whose noise is not what it claims
            finding.require()
        if options.baselines:
            # the run is complete without them; if they fail, it stays so
            outcome["baselines"] = work.baselines([node.member for node in nodes], judgements)
            outcome["seconds"]["total"] = round(time.perf_counter() - started, 2)
            write_json(folder.path / "result.json", outcome)
        return outcome


@dataclass(frozen=True, slots=True)
class _Law:
    digest: str
    findings: tuple[RuleFinding, ...]


def _law(project: Project, home: Home, options: LaunchOptions, show: Display) -> _Law:
    """Hold a run against the rules, and tell what they warn of.

    Raises:
        RefusedError: A rule that refuses is broken.
    """
    rules = load_rules(home=home.root) if options.rules is None else options.rules
    findings = plan_findings(project, rules, at=datetime.now(UTC))
    require_lawful(findings)
    line = findings_line(findings)
    if line:
        show.note(line)
    return _Law(rules_digest(rules), tuple(findings))


@dataclass(slots=True)
class _Launch:
    project: Project
    home: Home
    options: LaunchOptions
    display: Display
    run: str
    folder: RunFolder
    ledger: LedgerRecorder
    launcher: Identity
    plan: PrivacyPlan | None
    law: _Law
    models: dict[str, tuple[bytes, Path]] = field(default_factory=dict)
    last: tuple[Manifest, _Watch] | None = None

    @contextmanager
    def started(self, nodes: Sequence[LocalNode]) -> Iterator["LocalGrid | SimulationGrid"]:
        """Start the nodes; they end with the context."""
        self.display.step("starting the members' nodes")
        with _engine(self.options.engine)(nodes, workers=self.options.workers) as grid:
            grid.ready()
            yield grid

    def serve(self, grid: "LocalGrid | SimulationGrid", carry_out: Callable[[Any], None]) -> None:
        """Let the coordinator's Flower app do something over a grid."""
        from flwr.app import Context, RecordDict

        from aggregator.app import server_app

        context = Context(
            run_id=grid.run.run_id, node_id=0, node_config={}, state=RecordDict(), run_config={}
        )
        server_app(carry_out)(grid, context)

    def carry_out(
        self, grid: "LocalGrid | SimulationGrid", nodes: Sequence[LocalNode], started: float
    ) -> dict[str, Any]:
        """Run every fold, and put together what `--json` prints."""
        config = self.project.config
        results: list[RunResult] = []
        watches: list[_Watch] = []
        runs: list[str] = []
        for fold in self.project.folds:
            run = self.run if fold is None else f"{self.run}.{fold + 1}"
            manifest = self._manifest(run, nodes, fold)
            signature = self.launcher.sign(SIGNING_DOMAIN, manifest.to_bytes())
            suffix = "" if fold is None else f".{fold + 1}"
            self.folder.manifest(manifest, signature, f"manifest{suffix}")
            watch = _Watch(
                folder=self.folder,
                display=self.display,
                rounds=config.training.rounds,
                fold=fold,
                sums=[self._of_member(node.member, run) / "sums.jsonl" for node in nodes],
            )

            def carry_out(
                transport: Any,  # noqa: ANN401 - a GridTransport
                manifest: Manifest = manifest,
                signature: bytes = signature,
                watch: _Watch = watch,
            ) -> None:
                results.append(
                    coordinator.run(
                        manifest,
                        signature,
                        launcher=self.launcher.public,
                        data=declaration(self.project.contract),
                        rules={
                            "rules": self.law.digest,
                            "warnings": list(warned(self.law.findings)),
                        },
                        transport=transport,
                        ledger=self.ledger,
                        observer=watch,
                    )
                )

            self.serve(grid, carry_out)
            self.last = manifest, watch
            source = self._witness([node.member for node in nodes], run)
            kept = self.folder.model(source / "model.safetensors", f"model{suffix}")
            self.models[run] = results[-1].model, kept
            watches.append(watch)
            runs.append(run)
        seconds = time.perf_counter() - started
        outcome = self._outcome(results, runs, [node.member for node in nodes])
        outcome["seconds"] = {
            "federated": round(seconds, 2),
            "total": round(seconds, 2),
            "per_round": round(float(np.mean([s for w in watches for s in w.seconds])), 3),
        }
        return outcome

    def audit(self) -> Finding | None:
        """Attack this run's noise, as it was made here; None for a run without."""
        if self.plan is None:
            return None
        self.display.step("auditing the noise")
        config = self.project.config
        steps = config.training.rounds * self.plan.steps
        fewest = shares_of(
            self.plan, protection=config.protection.sum, fewest=config.minimum_cohort
        )
        canaries = canaries_within(AUDIT_S, self.plan, steps=steps, fewest=fewest)
        return audit(self.plan, steps=steps, fewest=fewest, entropy=system_bytes, canaries=canaries)

    def card(self, outcome: Mapping[str, Any]) -> Path:
        """Write the model's card."""
        contract = self.project.contract
        about = {"name": contract.name, "title": contract.title, "digest": contract.digest}
        card = make_card(outcome, contract=about)
        return keep_card(card, self.folder.path)

    def register(self, grid: "LocalGrid | SimulationGrid") -> None:
        """Put models and card in the ledger, as they are handed out, and let members cosign it."""
        card = hashlib.sha256((self.folder.path / "card.json").read_bytes()).hexdigest()
        for run, (model, path) in self.models.items():
            file = hashlib.sha256(path.read_bytes()).hexdigest()
            body = {"run": run, "model": model.hex(), "file": file, "card": card}
            self.ledger.record("model.registered", body)
        if self.last is None:
            return
        manifest, watch = self.last

        def carry_out(transport: Any) -> None:  # noqa: ANN401 - a GridTransport
            coordinator.witness(manifest, transport=transport, ledger=self.ledger, observer=watch)

        self.serve(grid, carry_out)

    def stop(self, reason: str) -> None:
        """Record the end of a run that did not finish; nothing here may hide the reason."""
        for run in list(self.ledger.unfinished):
            with suppress(TacitError, ValueError):
                self.ledger.stop(run, printable(reason)[:500])
        with suppress(TacitError, OSError):
            self.folder.log(f"stopped: {reason}")
            self.folder.state(
                "stopped",
                name=self.project.config.name,
                task=self.project.config.task,
                reason=reason,
                ledger=_head(self.ledger.store),
            )

    def _manifest(self, run: str, nodes: Sequence[LocalNode], fold: int | None) -> Manifest:
        return make_manifest(
            self.project,
            run=run,
            directory=nodes[0].known,
            ledger={"origin": self.ledger.origin, "key": self.ledger.identity.public.hex()},
            seed=self.options.seed,
            fold=fold,
            plan=self.plan,
        )

    def _outcome(
        self,
        results: Sequence[RunResult],
        runs: Sequence[str],
        members: Sequence[str],
    ) -> dict[str, Any]:
        config, contract = self.project.config, self.project.contract
        found = [read_sums(self._witness(members, run) / "sums.jsonl") for run in runs]
        rounds = config.training.rounds
        own = {member: self._own_metrics(member, runs) for member in members}
        reported: dict[str, Any] = {
            "run": self.run,
            "name": config.name,
            "title": config.title or contract.title,
            "task": config.task,
            "contract": contract.name,
            "members": list(members),
            "rounds": config.training.rounds,
            "seed": self.options.seed,
            "protection": config.protection.sum,
            "suite": config.protection.suite or "intl",
            "robust": config.protection.robust,
            "metrics": fold_mean([one.get(("evaluate test", rounds), {}) for one in found]),
            "by_member": {
                member: fold_mean([one["test"] for one in reports if "test" in one])
                for member, reports in own.items()
            },
            "headline": HEADLINE[tally_kind(contract)][0],
            "privacy": self._privacy(runs, members),
            "bytes_per_round": {
                "up_per_member": results[-1].bytes_up,
                "down_per_member": results[-1].bytes_down,
            },
            "bytes_sent_per_member": sum(result.bytes_total for result in results),
            "rounds_undone": sum(result.undone for result in results),
            "absences": {
                member: count
                for member in members
                if (count := sum(result.absences[member] for result in results))
            },
            "model": str(self.folder.path / "model.safetensors"),
            "model_values": results[-1].values,
            "ledger": _head(self.ledger.store),
        }
        reported |= outcome_of(
            [
                read_importance(
                    self._witness(members, run) / "sums.jsonl",
                    step="evaluate test",
                    round_index=rounds,
                )
                for run in runs
            ]
        )
        if len(results) > 1:
            reported["folds"] = [dict(one.get(("evaluate test", rounds), {})) for one in found]
            reported["model"] = str(self.folder.path / "model.1.safetensors")
        if config.personal is not None:
            reported["personal"] = {
                "metrics": fold_mean([one.get(("evaluate personal", rounds), {}) for one in found]),
                "by_member": {
                    member: fold_mean([one["personal"] for one in reports if "personal" in one])
                    for member, reports in own.items()
                },
            }
        return reported

    def _privacy(self, runs: Sequence[str], members: Sequence[str]) -> dict[str, Any]:
        """What the launch cost, from the receipts of what was really released."""
        note = scheme_of(self.project.config.protection.sum).sentence
        unit = self.project.contract.unit
        if self.plan is None:
            return account(None, dict.fromkeys(members, ()), unit=unit, note=note)
        by_run = receipts_of(self.ledger.store, runs)
        paid = {
            member: [one for run in by_run.values() for one in run.get(member, [])]
            for member in members
        }
        took_part = {member: receipts for member, receipts in paid.items() if receipts}
        privacy = account(self.plan, took_part, unit=unit, note=note)
        privacy["per_node"] = {member: privacy["per_node"].get(member) for member in members}
        if len(runs) > 1:
            privacy["folds"] = [
                account(self.plan, one, unit=unit, note=note)["epsilon"] for one in by_run.values()
            ]
        return privacy

    def _own_metrics(self, member: str, runs: Sequence[str]) -> list[dict[str, Any]]:
        """What a member found for itself; readable here because its node runs here."""
        folders = [self._of_member(member, run) for run in runs]
        return [
            read_json(folder / "report.json")["own_metrics"]
            for folder in folders
            if (folder / "report.json").exists()  # a member that left before the end has none
        ]

    def _witness(self, members: Sequence[str], run: str) -> Path:
        """The folder of a member that saw the run's end; all hold the same model."""
        for member in members:
            folder = self._of_member(member, run)
            if (folder / "report.json").exists():
                return folder
        raise CohortError("No member saw the end of the run; launch it again.")

    def _of_member(self, member: str, run: str) -> Path:
        return self.home.node(self.project.contract.name, member) / "runs" / run

    def baselines(
        self, members: Sequence[str], judgements: Mapping[str, Judgement]
    ) -> dict[str, Any]:
        """Train each member alone and all pooled, fold by fold, on the rows that the run used."""
        from federation.engine.baselines import POOLED, BaselineTask, train_baselines

        config, contract = self.project.config, self.project.contract
        kind, unit = tally_kind(contract), target_unit(contract)
        total = (len(members) + 1) * len(self.project.folds)
        done = 0

        def told() -> None:
            nonlocal done
            done += 1
            self.display.baseline(done, total)

        self.display.step("training the baselines")
        alone: list[Mapping[str, float]] = []
        pooled: list[Mapping[str, float]] = []
        own: dict[str, list[Mapping[str, float]]] = {}
        pooled_own: dict[str, list[Mapping[str, float]]] = {}
        reasons: dict[str, str] = {}

        def read(tallies: Sequence[Floats]) -> dict[str, float]:
            summed = np.sum(np.stack(tallies), axis=0)
            return metrics(kind, summed, contract.groups, target_unit=unit)

        for fold in self.project.folds:
            task = BaselineTask(
                contract=self.project.contract_path,
                data_root=self.options.data_root,
                settings=config.baseline_settings(seed=self.options.seed, fold=fold),
                average_last=config.average_last,
                device=self.options.device,
                member=POOLED,
                judgements=judgements,
            )
            found = train_baselines(task, members, told)
            reasons |= found.reasons
            if found.alone:
                alone.append(read(list(found.alone.values())))
            if found.pooled:
                pooled.append(read(list(found.pooled.values())))
            for member, tally in found.alone.items():
                own.setdefault(member, []).append(read([tally]))
            for member, tally in found.pooled.items():
                pooled_own.setdefault(member, []).append(read([tally]))
        return {
            "local_only": {
                # compared are the same rows on both sides, or nothing
                "metrics": {} if reasons else fold_mean(alone),
                "by_member": {m: fold_mean(found) for m, found in own.items() if m not in reasons},
                "cannot": reasons,
            },
            "pooled": {
                "metrics": fold_mean(pooled),
                "by_member": {member: fold_mean(values) for member, values in pooled_own.items()},
            },
        }


def _judgements(project: Project, home: Home, options: LaunchOptions) -> dict[str, Judgement]:
    """What the gates make of the members' devices; empty where no baseline asks."""
    contract = project.contract
    if not (options.baselines and contract.is_gated):
        return {}
    return judgements_here(home, contract, gate_rows(contract, options.data_root))


def _engine(name: Literal["embedded", "ray"]) -> "type[LocalGrid | SimulationGrid]":
    """What runs the nodes; it is heavy to import, and a launch that is refused never needs it."""
    if name == "ray":
        from federation.engine.simulation import SimulationGrid

        return SimulationGrid
    from federation.engine.local_grid import LocalGrid

    return LocalGrid


def _head(ledger: LedgerStore) -> dict[str, Any]:
    head = head_of(ledger)
    return {"leaves": head.leaves, "root": head.root}


def _refuse_earlier(home: Home) -> None:
    """Return if no ledger of an earlier version would be passed over in silence."""
    if (home.root / _EARLIER).exists() and not home.ledger.exists():
        raise RefusedError(
            f"{home.root / _EARLIER} is a ledger of an earlier version, which is not read any "
            "more; move it away, or set TACIT_HOME to another folder."
        )


def _enrol(home: Home, project: Project, member: str) -> bytes:
    """The member's public key; its identity is made where its node will run, once."""
    folder = home.node(project.contract.name, member)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as failure:
        raise InputError(f"{folder}: cannot be made ({failure.strerror}).") from None
    return kept_identity(folder / "identity.pem", system_bytes).public
