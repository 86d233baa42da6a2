"""A run over the network, from its launcher's side: select, sign, send, watch, keep.

What the coordinator tells is shown and believed of nothing but progress. Metrics and the model are
those of this machine's own node, if that was in the run; what the run cost is worked out from the
receipts in the coordinator's ledger, held against what it signed.
"""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from clients.contract import load_contract
from clients.frozen import read_yaml
from clients.targets import tally_kind
from federation.card import keep_card, make_card
from federation.channel import UnreachedError
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
from federation.config import Project, RunConfig
from federation.declaration import declaration
from federation.fold_mean import fold_mean
from federation.home import RUN_NAME, Home, read_json, write_bytes, write_json
from federation.importance_shown import outcome_of
from federation.noise_spec import warnings
from federation.record import (
    LAUNCH_FILE,
    RunFolder,
    read_importance,
    read_rounds,
    read_state,
    read_sums,
    unended_launch,
)
from federation.registry.access import Method, Scope, scope_of
from federation.run_manifest import make_manifest
from federation.runs.event import Answer, Event, Finished, Interrupted, Note, Round, Step, Stopped
from federation.runs.follow import follow
from federation.runs.reach import Reach
from federation.runs.select import select_members
from federation.spending import account, receipts_of
from privacy.canonical import canonical_json
from privacy.empirical import audit, canaries_within
from privacy.errors import InputError, RefusedError, TacitError
from privacy.ledger.store import head_of
from privacy.manifest import SIGNING_DOMAIN, Manifest
from privacy.plan import shares_of
from privacy.randomness import system_bytes
from privacy.secure_sum.schemes import scheme_of
from privacy.suites import SuiteId
from privacy.tally import HEADLINE

if TYPE_CHECKING:
    from privacy.membership import Membership

AUDIT_S: Final = 3.0
LAUNCHED: Final = "launched"
TRIES: Final = 3
TRY_AGAIN_S: Final = 1.0


class NetworkDisplay(Protocol):
    """Shows a person how a run goes; the default shows nothing."""

    def step(self, name: str) -> None:
        """A step began."""

    def round(
        self, index: int, of: int, metrics: Mapping[str, float], facts: Mapping[str, float]
    ) -> None:
        """A round was committed."""

    def note(self, sentence: str) -> None:
        """Something went otherwise."""

    def answered(self, member: str, answer: str, reason: str) -> None:
        """A member answered to the invitation, or did not."""


class Silent:
    """A display that shows nothing."""

    def step(self, name: str) -> None:
        """Nothing."""

    def round(
        self, index: int, of: int, metrics: Mapping[str, float], facts: Mapping[str, float]
    ) -> None:
        """Nothing."""

    def note(self, sentence: str) -> None:
        """Nothing."""

    def answered(self, member: str, answer: str, reason: str) -> None:
        """Nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkOptions:
    """How to launch.

    Attributes:
        name: Of the run; None makes one of the config's name and the time.
        seed: Of initial model and shuffling.
        detach: Whether not to wait for the run's end.
        rules: What the run is held against; None: the home's rules.
    """

    name: str | None = None
    seed: int = 0
    detach: bool = False
    rules: tuple[Rule, ...] | None = None


@dataclass(frozen=True, slots=True)
class Watched:
    """What was seen of one run that went to its end.

    Attributes:
        run: Its name.
        end: What it ended with.
        answers: Member -> what it answered, and why.
        seconds: Of each round.
    """

    run: str
    end: Finished
    answers: Mapping[str, tuple[str, str]]
    seconds: Sequence[float]


class LeftError(RefusedError):
    """Nobody watches any more; the run goes on."""


def launch_network(
    project: Project,
    home: Home,
    options: NetworkOptions,
    reach: Reach,
    display: NetworkDisplay | None = None,
) -> dict[str, Any]:
    """Launch a run at the federation's coordinator, and watch it to its end.

    Returns:
        What `tacit run launch --json` prints; also kept as the run's result.json.

    Raises:
        TacitError: It cannot be launched, was refused, stopped or interrupted; or nobody wanted to
            watch it any more, and it goes on.
    """
    show = display or Silent()
    started = time.perf_counter()
    place = reach.place
    if scope_of(place.role, Method.LAUNCH) is Scope.NONE:
        raise RefusedError(
            f"{place.name} is in {place.federation} as {place.role.value}; runs are launched by a "
            "bank or an insurer."
        )
    if options.detach and len(project.folds) > 1:
        raise InputError(
            f"--detach: {project.contract.name} is run in {len(project.folds)} folds, one after "
            "the other; leave it out."
        )
    work = _prepared(project, home, options, reach, show)
    done: list[Watched] = []
    for fold, run in zip(project.folds, work.runs, strict=True):
        work.send(reach, fold, run)
        if options.detach:
            return work.detached()
        done.append(watch_run(reach, home, run, show, folder=work.folder, fold=fold))
    return work.complete(reach, done, show, seconds=time.perf_counter() - started)


def watch_run(
    reach: Reach,
    home: Home,
    run: str,
    display: NetworkDisplay,
    *,
    folder: RunFolder | None = None,
    fold: int | None = None,
) -> Watched:
    """Watch a run to its end.

    Args:
        reach: The federation.
        home: This machine's; its own node's figures are shown, if that is in the run.
        run: The run's whole name.
        display: Shows it.
        folder: Where what happens is kept too; None: nowhere.
        fold: Which fold it is; None without.

    Raises:
        RefusedError: It was stopped or interrupted; the sentence says why.
        LeftError: Ctrl-C.
    """
    answers: dict[str, tuple[str, str]] = {}
    seconds: list[float] = []
    end: Event | None = None
    known = len(read_rounds(folder.path)) if folder is not None and fold is None else 0
    sums = home.own_node / "runs" / run / "sums.jsonl"
    try:
        for told in follow(reach.runs, run, lost=display.note):
            event = end = told.event
            if isinstance(event, Step):
                display.step(event.name)
            elif isinstance(event, Note):
                display.note(event.sentence)
            elif isinstance(event, Answer):
                answers[event.member] = (event.answer, event.reason)
                display.answered(event.member, event.answer, event.reason)
            elif isinstance(event, Round):
                seconds.append(event.seconds)
                found = read_sums(sums).get(("evaluate watch", event.index), {})
                metrics = found if event.watched else {}
                facts = {"bytes_up": event.bytes_up, "bytes_down": event.bytes_down}
                facts_s = {"seconds": event.seconds, **facts}
                if folder is not None and event.index > known:
                    number = {} if fold is None else {"fold": fold}
                    folder.round(
                        {"round": event.index, **number, "metrics": dict(metrics), **facts_s}
                    )
                display.round(event.index, event.of, metrics, facts_s)
            elif isinstance(event, Finished):
                break
    except KeyboardInterrupt:
        raise LeftError(
            f"You no longer watch {run}, and it goes on. Watch it with: tacit run watch {run}; end "
            f"it with: tacit run stop {run}."
        ) from None
    if isinstance(end, Finished):
        return Watched(run, end, answers, seconds)
    return _not_finished(run, end, answers, folder)


def _not_finished(
    run: str,
    end: Event | None,
    answers: Mapping[str, tuple[str, str]],
    folder: RunFolder | None,
) -> Watched:
    """Raise what a run that did not finish ended with."""
    if isinstance(end, Interrupted):
        raise RefusedError(
            f"{run} is interrupted: {end.reason.rstrip('.')}. Go on with: tacit run resume {run}."
        )
    reason = end.reason if isinstance(end, Stopped) else "the coordinator says no more of it"
    # the first one's words are in the reason; the others' are as good
    others = [
        f"{member}: {why.rstrip('.')}"
        for member, (answer, why) in sorted(answers.items())
        if answer in {"refused", "absent"} and why and why.rstrip(".") not in reason
    ]
    if folder is not None:
        with suppress(TacitError):
            facts = {**read_state(folder.path), "reason": reason}
            facts.pop("state", None)
            folder.state("stopped", **facts)
    told = f" Also {'; '.join(others)}." if others else ""
    raise RefusedError(f"{run} was stopped: {reason.rstrip('.')}.{told}")


def complete_later(
    reach: Reach, home: Home, watched: Watched, display: NetworkDisplay
) -> dict[str, Any] | None:
    """Keep the result of a run that was launched from this home and not watched to its end.

    Returns:
        The result; None where the run was not launched here, is one of several folds, or is kept.

    Raises:
        TacitError: See `launch_network`.
    """
    folder = home.runs / watched.run
    kept = unended_launch(folder)
    if kept is None:
        return None
    contract = load_contract(folder / "contract.yaml")
    project = Project(
        config=read_yaml(RunConfig, folder / "config.yaml"),
        contract=contract,
        config_path=folder / "config.yaml",
        contract_path=folder / "contract.yaml",
    )
    work = _Launch(
        project=project,
        home=home,
        folder=RunFolder(path=folder),
        run=watched.run,
        runs=(watched.run,),
        members={name: bytes.fromhex(key) for name, key in kept["members"].items()},
        seed=int(kept["seed"]),
        rules=kept["rules"],
        address=reach.place.registry,
        countersigned=False,
        seen={},
        suite=kept.get("suite", "intl"),
    )
    return work.complete(reach, [watched], display, seconds=watched.end.seconds)


def _prepared(
    project: Project, home: Home, options: NetworkOptions, reach: Reach, show: NetworkDisplay
) -> "_Launch":
    """Everything up to the first signature; no run is begun where any of it fails."""
    rules = load_rules(home=home.root) if options.rules is None else options.rules
    findings = plan_findings(project, rules, at=datetime.now(UTC))
    require_lawful(findings)
    line = findings_line(findings)
    if line:
        show.note(line)
    show.step("reading who is in the federation")
    membership = reach.membership()
    wished = project.config.protection.suite
    if wished not in {None, membership.suite}:
        raise RefusedError(
            f"The config asks for the suite {wished} and the federation's founder signed "
            f"{membership.suite}; leave protection.suite out."
        )
    members = select_members(membership, project.config)
    project.layout(len(members), project.privacy_plan())
    for sentence in warnings(project.config.privacy, members=len(members)):
        show.note(sentence)
    run = _name(home, project, options)
    folds = project.folds
    work = _Launch(
        project=project,
        home=home,
        folder=RunFolder(path=home.runs / run),
        run=run,
        runs=tuple(run if fold is None else f"{run}.{fold + 1}" for fold in folds),
        members=members,
        seed=options.seed,
        rules={
            "digest": rules_digest(rules),
            "warnings": list(warned(findings)),
            "findings": findings_facts(findings),
        },
        address=reach.place.registry,
        countersigned=_second_signs(membership, members, reach),
        seen=membership.told,
        suite=membership.suite,
    )
    work.keep()
    return work


def _second_signs(membership: "Membership", members: Mapping[str, bytes], reach: Reach) -> bool:
    """Whether there is a member besides the launcher who can sign the manifest too."""
    own = membership.participants[reach.place.name].key
    return any(key != own for key in members.values())


def _name(home: Home, project: Project, options: NetworkOptions) -> str:
    run = options.name or home.new_run(project.config.name, datetime.now(UTC))
    if not RUN_NAME.fullmatch(run) or "/" in run:
        raise InputError(
            f"--name {run}: use letters, digits, points, dashes and underscores, 128 at most."
        )
    if (home.runs / run).exists():
        raise InputError(f"--name {run}: {home.root} holds a run of that name; choose another.")
    return run


@dataclass(kw_only=True, slots=True)
class _Launch:
    """What this machine keeps of a launch: one run, or one for each fold."""

    project: Project
    home: Home
    folder: RunFolder
    run: str
    runs: Sequence[str]
    members: Mapping[str, bytes]
    seed: int
    rules: Mapping[str, Any]
    address: str
    countersigned: bool
    seen: Mapping[str, str]
    suite: SuiteId

    def keep(self) -> None:
        """Make the launch's folder."""
        config = self.project.config
        facts = {"name": config.name, "task": config.task, "seed": self.seed}
        self.folder.begin(self.project.config_path, self.project.contract_path, facts)
        write_json(
            self.folder.path / LAUNCH_FILE,
            {
                "runs": list(self.runs),
                "members": {name: key.hex() for name, key in self.members.items()},
                "seed": self.seed,
                "rules": dict(self.rules),
                "coordinator": self.address,
                "suite": self.suite,
            },
        )
        self.folder.state(LAUNCHED, **facts)

    def send(self, reach: Reach, fold: int | None, run: str) -> Manifest:
        """Sign a run's manifest and send it.

        Raises:
            TacitError: The coordinator refuses it; then the folder says so.
        """
        project, place = self.project, reach.place
        manifest = make_manifest(
            project,
            run=run,
            directory=self.members,
            ledger={
                "origin": place.ledger_origin,
                "key": reach.ledger_key().hex(),
                # what the members are chosen from: a node that sees another federation refuses
                **self.seen,
            },
            seed=self.seed,
            fold=fold,
            plan=project.privacy_plan(),
            countersigned=self.countersigned,
            suite=self.suite,
        )
        signature = place.identity().sign(SIGNING_DOMAIN, manifest.to_bytes())
        suffix = "" if fold is None else f".{fold + 1}"
        self.folder.manifest(manifest, signature, f"manifest{suffix}")
        data = canonical_json(declaration(project.contract))
        rules = canonical_json(
            {"rules": self.rules["digest"], "warnings": list(self.rules["warnings"])}
        )
        document = manifest.to_bytes()
        try:
            # the same words again begin nothing, so an answer that was lost can be asked for
            _patiently(lambda: reach.runs.launch(document, signature, data=data, rules=rules))
        except TacitError as failure:
            self._state("stopped", reason=str(failure))
            raise
        return manifest

    def detached(self) -> dict[str, Any]:
        """What is known of a run that is not waited for."""
        return {
            "run": self.run,
            "state": "running",
            "coordinator": self.address,
            "members": sorted(self.members),
            "folder": str(self.folder.path),
        }

    def complete(
        self, reach: Reach, done: Sequence[Watched], show: NetworkDisplay, *, seconds: float
    ) -> dict[str, Any]:
        """Put together what is known here of runs that finished, and keep it."""
        started = time.perf_counter()
        outcome = self._outcome(reach, done)
        models = self._models(done)
        if models:
            self._audit(outcome, show)
            contract = self.project.contract
            about = {"name": contract.name, "title": contract.title, "digest": contract.digest}
            outcome["card"] = str(keep_card(make_card(outcome, contract=about), self.folder.path))
            card = hashlib.sha256((self.folder.path / "card.json").read_bytes()).digest()
            for run, path in models.items():
                file = self._file_digest(run, path)
                _patiently(partial(reach.runs.report, run, file=file, card=card))
        total = seconds + time.perf_counter() - started
        rounds = [one for each in done for one in each.seconds]
        outcome["seconds"] = {
            "federated": round(seconds, 2),
            "total": round(total, 2),
            "per_round": round(sum(rounds) / len(rounds), 3) if rounds else 0.0,
        }
        write_json(self.folder.path / "result.json", outcome)
        self._state("finished")
        return outcome

    def _state(self, state: str, **facts: str) -> None:
        config = self.project.config
        self.folder.state(state, name=config.name, task=config.task, seed=self.seed, **facts)

    def _outcome(self, reach: Reach, done: Sequence[Watched]) -> dict[str, Any]:
        config, contract, last = self.project.config, self.project.contract, done[-1].end
        rounds = config.training.rounds
        ledger = reach.ledger()
        head = head_of(ledger)
        note = scheme_of(config.protection.sum).sentence
        took_part = sorted({member for one in done for member in one.end.absences})
        paid: dict[str, list[Any]] = {member: [] for member in took_part}
        for found in receipts_of(ledger, self.runs).values():
            for member, receipts in found.items():
                paid.setdefault(member, []).extend(receipts)
        own = [self._report(one.run) for one in done]
        sums = [read_sums(self._own(one.run) / "sums.jsonl") for one in done]
        tests = [one["test"] for one in own if "test" in one]
        outcome: dict[str, Any] = {
            "run": self.run,
            "name": config.name,
            "title": config.title or contract.title,
            "task": config.task,
            "contract": contract.name,
            "coordinator": self.address,
            "members": took_part,
            "answers": {
                member: {"answer": answer, "reason": reason}
                for one in done
                for member, (answer, reason) in sorted(one.answers.items())
            },
            "rounds": rounds,
            "seed": self.seed,
            "protection": config.protection.sum,
            "suite": self.suite,
            "robust": config.protection.robust,
            "metrics": fold_mean([one.get(("evaluate test", rounds), {}) for one in sums]),
            # what a member's model is worth on its own rows is known to that member alone
            "by_member": {reach.place.name: fold_mean(tests)} if tests else {},
            "headline": HEADLINE[tally_kind(contract)][0],
            "privacy": account(
                self.project.privacy_plan(),
                {member: receipts for member, receipts in paid.items() if receipts},
                unit=contract.unit,
                note=note,
            ),
            "bytes_per_round": {"up_per_member": last.bytes_up, "down_per_member": last.bytes_down},
            "bytes_sent_per_member": sum(one.end.bytes_total for one in done),
            "rounds_undone": sum(one.end.undone for one in done),
            "absences": {
                member: count
                for member in took_part
                if (count := sum(one.end.absences.get(member, 0) for one in done))
            },
            "model": None,
            "model_values": last.values,
            "card": None,
            "ledger": {"leaves": head.leaves, "root": head.root},
            "rules": {"digest": self.rules["digest"], "findings": self.rules["findings"]},
        }
        outcome |= outcome_of(
            [
                read_importance(
                    self._own(one.run) / "sums.jsonl", step="evaluate test", round_index=rounds
                )
                for one in done
            ]
        )
        if len(done) > 1:
            outcome["folds"] = [dict(one.get(("evaluate test", rounds), {})) for one in sums]
        if config.personal is not None:
            outcome["personal"] = {
                "metrics": fold_mean([one.get(("evaluate personal", rounds), {}) for one in sums]),
                "by_member": {
                    reach.place.name: fold_mean(
                        [one["personal"] for one in own if "personal" in one]
                    )
                },
            }
        models = self._models(done)
        if models:
            outcome["model"] = str(next(iter(models.values())))
        return outcome

    def _models(self, done: Sequence[Watched]) -> dict[str, Path]:
        """Run -> this machine's copy of its model; nothing unless its own node has all of them."""
        found: dict[str, Path] = {}
        for one in done:
            source = self._own(one.run) / "model.safetensors"
            if not source.exists():
                return {}
            suffix = one.run.removeprefix(self.run)
            path = self.folder.path / f"model{suffix}.safetensors"
            if not path.exists():
                write_bytes(path, source.read_bytes())
            found[one.run] = path
        return found

    def _audit(self, outcome: dict[str, Any], show: NetworkDisplay) -> None:
        """Attack the run's noise, as it is made by what is installed here."""
        plan, config = self.project.privacy_plan(), self.project.config
        if plan is None:
            return
        show.step("auditing the noise")
        steps = config.training.rounds * plan.steps
        fewest = shares_of(plan, protection=config.protection.sum, fewest=config.minimum_cohort)
        canaries = canaries_within(AUDIT_S, plan, steps=steps, fewest=fewest)
        finding = audit(plan, steps=steps, fewest=fewest, entropy=system_bytes, canaries=canaries)
        outcome["privacy"]["audit"] = finding.to_json()
        # nobody may use a model whose noise is not what it claims
        finding.require()

    def _own(self, run: str) -> Path:
        return self.home.own_node / "runs" / run

    def _file_digest(self, run: str, path: Path) -> bytes:
        """SHA-256 of a model as it is, whatever it is sealed with here."""
        said = read_json(self._own(run) / "report.json").get("file")
        if said is not None:
            return bytes.fromhex(str(said))
        # a node of an earlier version wrote it, and did not say
        return hashlib.sha256(path.read_bytes()).digest()

    def _report(self, run: str) -> Mapping[str, Any]:
        """What this machine's own node found for itself; nothing where it has none."""
        path = self._own(run) / "report.json"
        return dict(read_json(path)["own_metrics"]) if path.exists() else {}


def _patiently(ask: Callable[[], object]) -> None:
    """Ask, and again where nobody answers; not for long, as a person waits."""
    for _ in range(TRIES - 1):
        try:
            ask()
        except UnreachedError:
            time.sleep(TRY_AGAIN_S)
        else:
            return
    ask()
