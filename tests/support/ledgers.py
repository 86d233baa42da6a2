"""Signed ledgers of small runs, as an honest coordinator and honest members write them.

A `Script` keeps what the next entry follows from, and signs with real keys. Whatever a test changes
is signed as changed, so that an entry is refused for what is wrong with it and nothing else.
"""

import copy
import hashlib
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, TypeAlias

from privacy.identity import Identity
from privacy.ledger import Entry, next_entry
from privacy.ledger.entry import EVALUATIONS, STATISTICS, UPDATE
from privacy.manifest import Manifest, Protection
from privacy.plan import PrivacyPlan
from privacy.receipt import Receipt
from privacy.sum_context import (
    ACCEPTED_DOMAIN,
    SURVIVORS_DOMAIN,
    SumContext,
    extend_history,
    first_history,
    names_digest,
    survivors_message,
)

Line: TypeAlias = tuple[str, dict[str, object]]
NAMES = ("bank", "broker", "insurer", "maker", "mill")
NO_MODEL = "00" * 32
WATCH, TEST, PERSONAL = EVALUATIONS


@cache
def key_of(member: str) -> Identity:
    """The member's identity; the same in every run."""
    return Identity.create(lambda _: bytes.fromhex(digest("key", member)))


def digest(*words: object) -> str:
    """Some hash."""
    return hashlib.sha256(repr(words).encode()).hexdigest()


def manifest_of(
    run: str,
    names: Sequence[str],
    *,
    minimum: int = 2,
    group_size: int = 0,
    protection: Protection = "masked",
    privacy: PrivacyPlan | None = None,
) -> Manifest:
    """What the members of a run agreed on."""
    return Manifest(
        run=run,
        name="demo",
        task="credit",
        unit="borrower",
        contract=digest("contract"),
        directory={member: key_of(member).public.hex() for member in names},
        minimum_cohort=minimum,
        protection=protection,
        group_size=group_size,
        privacy=privacy,
        node_settings={"training": {"rounds": 2}},
        coordinator_settings={"deadline_s": 60},
    )


def started(manifest: Manifest) -> dict[str, object]:
    """What `run.started` says of a manifest, but for the run."""
    return {
        "name": manifest.name,
        "task": manifest.task,
        "members": dict(manifest.directory),
        "minimum": manifest.minimum_cohort,
        "group_size": manifest.group_size,
        "manifest": manifest.digest().hex(),
        "document": manifest.to_bytes().decode(),
        "protection": manifest.protection,
    }


class Script:
    """One run, entry by entry; `lines` is what was written so far."""

    def __init__(
        self,
        run: str = "r",
        names: Sequence[str] = NAMES,
        *,
        minimum: int = 2,
        group_size: int = 0,
        protection: Protection = "masked",
        privacy: PrivacyPlan | None = None,
    ) -> None:
        self.run = run
        self.names = tuple(names)
        self.manifest = manifest_of(
            run,
            names,
            minimum=minimum,
            group_size=group_size,
            protection=protection,
            privacy=privacy,
        )
        self.lines: list[Line] = []
        self.roster, self.keys = digest(run, "roster"), digest(run, "keys")
        self.history = first_history(bytes.fromhex(self.roster), bytes.fromhex(self.keys))
        self.model = self.before = NO_MODEL
        self.committed = 0
        self.step: tuple[str, int] = ("", 0)
        self.sums: list[tuple[bytes, tuple[str, ...], bytes]] = []

    def copy(self) -> "Script":
        """What is written to the copy is not written here."""
        return copy.deepcopy(self)

    def add(self, kind: str, changes: dict[str, Any], **body: object) -> "Script":
        """Write an entry of this run."""
        self.lines.append((kind, {"run": self.run, **body, **changes}))
        return self

    def _signed(self, domain: str, message: bytes, signers: Iterable[str]) -> dict[str, str]:
        return {member: key_of(member).sign(domain, message).hex() for member in signers}

    # -- the entries --

    def start(self, **changes: Any) -> "Script":  # noqa: ANN401 - any field of an entry
        return self.add("run.started", changes, **started(self.manifest))

    def agree_on_keys(self, **changes: Any) -> "Script":  # noqa: ANN401 - any field of an entry
        return self.add(
            "keys.agreed", changes, roster=self.roster, fingerprint=self.keys, public_bytes=0
        )

    def agree_on_model(self, **changes: Any) -> "Script":  # noqa: ANN401 - any field of an entry
        self.model = str(changes.get("model", digest(self.run, "model", 0)))
        return self.add(
            "model.agreed", changes, architecture=digest("mlp"), model=self.model, values=10
        )

    def open(
        self,
        step: str,
        number: int,
        *,
        asked: Sequence[str] | None = None,
        members: Sequence[str] | None = None,
        signers: Sequence[str] | None = None,
        domain: str = SURVIVORS_DOMAIN,
        of: dict[str, Any] | None = None,
        **changes: Any,  # noqa: ANN401 - any field of an entry
    ) -> "Script":
        """A sum.

        Args:
            step: What is summed.
            number: Its round.
            asked: All members, unless given.
            members: Whose vectors are in it; all who are asked, unless given.
            signers: Who signs that; all whose vectors are in it, unless given.
            domain: What they sign it as.
            of: Fields of the context that is signed, and named, instead of those that are due.
            changes: Fields of the entry instead of those that are due.
        """
        asked = self.names if asked is None else tuple(asked)
        members = asked if members is None else tuple(members)
        model = changes.get("model", NO_MODEL if step == STATISTICS else self.model)
        schema = str(changes.get("schema", digest("schema", step)))
        due: dict[str, Any] = {
            "run": self.manifest.digest(),
            "step": step,
            "round": number,
            "schema": bytes.fromhex(schema),
            "model": bytes.fromhex(model),
            "history": self.history,
            "roster": bytes.fromhex(self.roster),
            "cohort": names_digest(asked),
            "keys": bytes.fromhex(self.keys),
        }
        context = SumContext(**{**due, **(of or {})}).digest()
        aggregate = digest(self.run, step, number, members)
        signers = members if signers is None else signers
        signatures = self._signed(domain, survivors_message(context, members), signers)
        self.step = (step, number)
        self.sums.append((context, tuple(members), bytes.fromhex(aggregate)))
        return self.add(
            "sum.opened",
            changes,
            step=step,
            round=number,
            asked=list(asked),
            members=list(members),
            schema=schema,
            model=model,
            context=context.hex(),
            aggregate=aggregate,
            payload_bytes=96,
            signatures=signatures,
        )

    def receipt(self, **changes: Any) -> "Script":  # noqa: ANN401 - any field of an entry
        """Of the sum that was opened last."""
        members = list(self.sums[-1][1]) if self.sums else list(self.names)
        step, number = self.step
        return self.add(
            "receipt",
            changes,
            step=step,
            round=number,
            protection=self.manifest.protection,
            members=members,
            receipt=self.due_receipt(step, number).to_json(),
        )

    def due_receipt(self, step: str, number: int, values: int | None = None) -> Receipt:
        """What the manifest says of such a release."""
        plan = self.manifest.privacy
        weighed = step == UPDATE and (plan is None or plan.noise == "local")
        values = 10 + weighed if values is None else values
        return self.manifest.receipt(step or UPDATE, number, values)

    def accept(
        self,
        *,
        signers: Sequence[str] | None = None,
        domain: str = ACCEPTED_DOMAIN,
        history: bytes | None = None,
        **changes: Any,  # noqa: ANN401 - any field of an entry
    ) -> "Script":
        """All members accept the step under way, and sign the history that follows."""
        step, number = self.step
        model = self.model
        if step == UPDATE:
            self.before = self.model
            model = digest(self.run, "model", number, len(self.lines))
        model = str(changes.get("model", model))
        kept = bool(changes.get("kept", True))
        self.history = history or extend_history(
            self.history, self.sums, model=bytes.fromhex(model), kept=kept
        )
        signers = self.names if signers is None else signers
        self.model = model
        self.sums = []
        return self.add(
            "sum.accepted",
            changes,
            step=step,
            round=number,
            model=model,
            kept=kept,
            signatures=self._signed(domain, self.history, signers),
        )

    def commit(self, **changes: Any) -> "Script":  # noqa: ANN401 - any field of an entry
        self.committed += 1
        return self.add(
            "round.committed",
            changes,
            round=self.committed,
            model_before=self.before,
            model_after=self.model,
        )

    def finish(self, **changes: Any) -> "Script":  # noqa: ANN401 - any field of an entry
        return self.add("run.finished", changes, rounds=self.committed, model=self.model)

    def stop(self, **changes: Any) -> "Script":  # noqa: ANN401 - any field of an entry
        return self.add("run.stopped", changes, reason="by hand")

    # -- what belongs together --

    def release(self, step: str, number: int, **how: Any) -> "Script":  # noqa: ANN401 - see `open`
        """A sum and its receipt."""
        return self.open(step, number, **how).receipt()

    def statistics(self, stages: int = 2) -> "Script":
        """All that comes before the initial model, and that model."""
        for stage in range(stages):
            self.release(STATISTICS, stage).accept()
        return self.agree_on_model()

    def begin(self) -> "Script":
        """All that comes before the first round."""
        return self.start().agree_on_keys().statistics()

    def train(self, **how: Any) -> "Script":  # noqa: ANN401 - see `open`
        """One more round."""
        return self.release(UPDATE, self.committed + 1, **how).accept().commit()

    def evaluate(self, step: str, **how: Any) -> "Script":  # noqa: ANN401 - see `open`
        """An evaluation after the last round."""
        return self.release(step, self.committed, **how).accept()


def whole_run(run: str = "r", names: Sequence[str] = NAMES, **how: Any) -> Script:  # noqa: ANN401 - see `Script`
    """Two rounds, each with a validation, and a test at the end."""
    script = Script(run, names, **how).begin().train().evaluate(WATCH)
    script.train().evaluate(WATCH).evaluate(TEST).evaluate(PERSONAL)
    return script.finish()


def small_run(run: str = "r", names: Sequence[str] = NAMES[:3]) -> Script:
    """One round and no evaluation."""
    return Script(run, names).start().agree_on_keys().statistics(1).train().finish()


def chained(lines: Iterable[Line], *, ticks_ms: int = 1, begun_ms: int = 0) -> list[Entry]:
    """The entries that hold these lines, `ticks_ms` apart."""
    entries: list[Entry] = []
    for index, (kind, body) in enumerate(lines):
        last = entries[-1] if entries else None
        entries.append(next_entry(last, kind, body, time_ms=begun_ms + ticks_ms * index))
    return entries


def data_of(entries: Iterable[Entry]) -> bytes:
    """The ledger's bytes."""
    return b"".join(entry.line() for entry in entries)


def ledger_of(*scripts: Script) -> bytes:
    """The bytes of a ledger of these runs, one after another."""
    return data_of(chained(line for script in scripts for line in script.lines))
