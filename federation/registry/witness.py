"""What a witness does: cosign what follows on what it cosigned before, and show what does not.

One folder is its memory; keep it, and keep it alone:
    memory.sqlite       the last cosigned state of each log (`privacy.ledger.witness`)
    <log>-<state>.note  that state as its log signed it
    evidence-*.json     two states, both signed by the log, and that nothing shows one to follow on
                        the other; of the same size they are proof by themselves, and otherwise it
                        is for the log's operator to prove it
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

from clients.durable_file import make_folder
from federation.home import write_bytes
from federation.registry.plain import plain
from federation.registry.source import AbsentError, LogInfo, Source
from privacy.errors import InputError, NotVerifiedError, TacitError
from privacy.ledger.checkpoint import Checkpoint, Signer, parse_checkpoint_text
from privacy.ledger.merkle import verify_consistency
from privacy.ledger.note import VerifierKey, parse_note
from privacy.ledger.rotation import Rotation
from privacy.ledger.witness import ForkedError, InconsistentError, StaleError, Witness

State: TypeAlias = Literal[
    "cosigned",
    "nothing signed",
    "behind",
    "not shown",
    "refused",
    "not submitted",
    "rolled back",
    "two histories",
]
_TRIES = 3
MEMORY_FILE: Final = "memory.sqlite"
"""In a witness's folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one log.

    Attributes:
        origin: Which log.
        state: `cosigned`; `nothing signed`: it has no checkpoint yet; `behind`: it shows an older
            state, on which the remembered one does follow; `not shown`: it is remembered and was
            not among those shown; `refused`: its answer cannot be cosigned, and proves nothing
            against it; `not submitted`: cosigned, but the cosignature was not taken;
            `rolled back`: it shows an older state, and nothing shows that the remembered one
            follows on that; `two histories`: nothing shows that what it shows follows on what is
            remembered.
        old: The size that was remembered.
        size: The size that was shown; 0 if none was.
        pinned: Of a log met for the first time: its key, which is trusted from now on.
        line: The cosignature (`NoteSignature.to_line`); empty if there is none.
        reason: One sentence; empty where all is well.
        evidence: Where both states are kept.
    """

    origin: str
    state: State
    old: int = 0
    size: int = 0
    pinned: VerifierKey | None = None
    line: str = ""
    reason: str = ""
    evidence: Path | None = None

    @property
    def is_well(self) -> bool:
        """Whether nothing needs to be done about it."""
        return self.state in {"cosigned", "nothing signed", "behind", "not shown"}

    @property
    def is_accusation(self) -> bool:
        """Whether there is evidence against the log."""
        return self.evidence is not None


class _OutrunError(Exception):
    """The log replaced the checkpoint before its cosignature came."""


class LogWitness:
    """A witness with a memory; any number of processes may share it."""

    def __init__(
        self,
        folder: Path,
        *,
        key: VerifierKey,
        sign: Signer,
        logs: Mapping[str, VerifierKey] | None = None,
    ) -> None:
        """Open the memory, or begin one.

        Args:
            folder: It is made where it is missing.
            key: The witness's own, of type `COSIGNATURE_V1`.
            sign: Signs with the private key of `key`.
            logs: Origin -> key of the logs to witness, and of no others. Without it every log
                that is shown is witnessed, and the key it has when it is met first is its key.

        Raises:
            InputError: the folder cannot be made.
            RefusedError: the memory cannot be used.
            NotVerifiedError: another key is remembered for one of `logs`.
        """
        try:
            make_folder(folder, mode=0o700)
        except OSError as error:
            raise InputError(f"cannot make the folder {folder}: {error.strerror}") from None
        self.folder = folder
        self.key = key
        self._logs = dict(logs or {})
        self._witness = Witness(folder / MEMORY_FILE, key=key, sign=sign)
        for origin, log in self._logs.items():
            self._witness.trust(log, origin=origin)

    def look(self, source: Source, *, time_s: int) -> tuple[Outcome, ...]:
        """Hold every log of a source to what is remembered, and cosign what follows on it.

        Args:
            source: Where the logs are.
            time_s: Seconds since 1970 UTC.

        Returns:
            What became of each log that was shown or is remembered.

        Raises:
            TacitError: the source cannot say which logs there are.
        """
        shown = {log.origin: log for log in source.logs()}
        wanted = [log for log in shown.values() if not self._logs or log.origin in self._logs]
        outcomes = [self._hold(source, log, time_s) for log in wanted]
        remembered = {told.origin: told.size for told, _ in self._kept()}
        missing = {**dict.fromkeys(self._logs, 0), **remembered}
        outcomes += [
            Outcome(
                origin=origin,
                state="not shown",
                old=size,
                reason=f"{source.place} does not show it; ask its operator if it should",
            )
            for origin, size in missing.items()
            if origin not in shown
        ]
        return tuple(outcomes)

    def _hold(self, source: Source, log: LogInfo, time_s: int) -> Outcome:
        old, pinned = 0, None
        if not log.origin or not log.origin.isprintable():
            return Outcome(
                origin=plain(log.origin), state="refused", reason="that is no name of a log"
            )
        try:
            for _ in range(_TRIES):
                before = self._witness.head(log.origin)
                old = 0 if before is None else before.size
                if before is None and log.origin not in self._logs:
                    pinned = self._meet(log)
                try:
                    outcome = self._follow(source, log, before, time_s)
                except (StaleError, _OutrunError):
                    continue  # another process with this memory, or the log, was faster
                return _replaced(outcome, pinned)
        except TacitError as error:
            return Outcome(
                origin=log.origin, state="refused", old=old, pinned=pinned, reason=str(error)
            )
        return Outcome(
            origin=log.origin,
            state="refused",
            old=old,
            pinned=pinned,
            reason="it changes faster than it can be cosigned; try again",
        )

    def _meet(self, log: LogInfo) -> VerifierKey:
        if log.key is None:
            raise NotVerifiedError("its key is not known; give it as --log")
        self._witness.trust(log.key, origin=log.origin)
        return log.key

    def _follow(
        self, source: Source, log: LogInfo, before: Checkpoint | None, time_s: int
    ) -> Outcome:
        origin, old = log.origin, 0 if before is None else before.size
        try:
            note = source.checkpoint(origin)
        except AbsentError:
            if before is None:
                return Outcome(origin=origin, state="nothing signed")
            if log.size < old:
                reason = f"{origin} has {log.size} entries, and it had {old}: it was rolled back"
                return self._accuse("rolled back", before, None, (), reason=reason, time_s=time_s)
            return _behind(origin, old, 0)
        shown = parse_checkpoint_text(parse_note(note).text)
        if shown.origin != origin:
            raise NotVerifiedError(f"what it shows is a checkpoint of {shown.origin!r:.100}")
        if before is not None and shown.size < before.size:
            return self._look_back(source, before, shown, note, time_s)
        return self._look_ahead(source, before, shown, note, time_s)

    def _look_ahead(
        self, source: Source, before: Checkpoint | None, shown: Checkpoint, note: bytes, time_s: int
    ) -> Outcome:
        origin, old = shown.origin, 0 if before is None else before.size
        proof: tuple[bytes, ...] = ()
        if old not in {0, shown.size}:
            try:
                proof = source.consistency(origin, old, shown.size)
            except AbsentError:
                proof = ()  # that nothing shows it is for `cosign` to say, after the signature
        wrote = self._keep(shown, note, is_remembered=before == shown)
        try:
            cosignature = self._witness.cosign(
                note,
                old=old,
                proof=proof,
                time_s=time_s,
                rotations=self._rotations(source, shown, note, old),
            )
        except (ForkedError, InconsistentError) as error:
            self._forget(shown, wrote=wrote)
            if before is None:
                raise
            return self._accuse(
                "two histories", before, note, proof, reason=str(error), time_s=time_s
            )
        except StaleError:
            raise  # whoever was faster may have cosigned this very state
        except TacitError:
            self._forget(shown, wrote=wrote)
            raise
        self._forget_before(shown)
        line = cosignature.to_line()
        outcome = Outcome(origin=origin, state="cosigned", old=old, size=shown.size, line=line)
        try:
            source.submit(origin, shown.size, line)
        except AbsentError:
            raise _OutrunError from None
        except TacitError as error:
            return _replaced(outcome, None, state="not submitted", reason=str(error))
        return outcome

    def _rotations(
        self, source: Source, shown: Checkpoint, note: bytes, old: int
    ) -> tuple[Rotation, ...]:
        """What shows how the log came from the key that is remembered to the one that signed."""
        known = self._witness.key_of(shown.origin)
        if known is None or parse_note(note).by(known) or old >= shown.size:
            return ()
        try:
            return source.rotations(shown.origin, old, shown.size)
        except AbsentError:
            return ()  # that nothing shows it is for `cosign` to say

    def _look_back(
        self, source: Source, before: Checkpoint, shown: Checkpoint, note: bytes, time_s: int
    ) -> Outcome:
        # A registry that crashed may have lost its newest checkpoint; its entries it has.
        try:
            self._witness.cosign(note, old=shown.size, proof=(), time_s=time_s)
        except StaleError as error:
            if error.size != before.size:
                raise
        proof: tuple[bytes, ...] = ()
        try:
            if shown.size:
                proof = source.consistency(shown.origin, shown.size, before.size)
            verify_consistency(shown.size, shown.root, before.size, before.root, proof)
        except (AbsentError, NotVerifiedError):
            reason = (
                f"{shown.origin} shows {shown.size} entries, and nothing shows that the "
                f"{before.size} it had begin with them: it was rolled back"
            )
            return self._accuse("rolled back", before, note, proof, reason=reason, time_s=time_s)
        return _behind(shown.origin, before.size, shown.size)

    def _accuse(
        self,
        state: State,
        before: Checkpoint,
        note: bytes | None,
        proof: tuple[bytes, ...],
        *,
        reason: str,
        time_s: int,
    ) -> Outcome:
        path = self.folder / f"evidence-{_short(before.origin)}-{time_s}.json"
        remembered = self._path(before)
        told = {
            "origin": before.origin,
            "reason": reason,
            "time_s": time_s,
            "witness": self.key.to_text(),
            "remembered": {
                "size": before.size,
                "root": before.root.hex(),
                "note": remembered.read_text("utf-8") if remembered.exists() else None,
            },
            "shown": None if note is None else note.decode("utf-8"),
            "proof": [each.hex() for each in proof],
        }
        write_bytes(path, (json.dumps(told, indent=1) + "\n").encode())
        shown = 0 if note is None else parse_checkpoint_text(parse_note(note).text).size
        return Outcome(
            origin=before.origin,
            state=state,
            old=before.size,
            size=shown,
            reason=reason,
            evidence=path,
        )

    def _path(self, checkpoint: Checkpoint) -> Path:
        return self.folder / f"{_short(checkpoint.origin)}-{_short(checkpoint.text())}.note"

    def _keep(self, checkpoint: Checkpoint, note: bytes, *, is_remembered: bool) -> bool:
        """Keep a note before it is cosigned, so that what is remembered can always be shown.

        The note of what is remembered already is verified, and this one is not yet.
        """
        path = self._path(checkpoint)
        wanted = not is_remembered or not path.exists()
        if wanted:
            write_bytes(path, note)
        return wanted

    def _kept(self) -> list[tuple[Checkpoint, Path]]:
        found: list[tuple[Checkpoint, Path]] = []
        for path in sorted(self.folder.glob("*.note")):
            try:
                told = parse_checkpoint_text(parse_note(path.read_bytes()).text)
            except (OSError, NotVerifiedError):
                continue
            if self._path(told) == path:
                found.append((told, path))
        return found

    def _forget(self, shown: Checkpoint, *, wrote: bool) -> None:
        if wrote:
            self._path(shown).unlink(missing_ok=True)

    def _forget_before(self, checkpoint: Checkpoint) -> None:
        for told, path in self._kept():
            if told.origin == checkpoint.origin and told.size < checkpoint.size:
                path.unlink(missing_ok=True)


def _behind(origin: str, old: int, size: int) -> Outcome:
    return Outcome(
        origin=origin,
        state="behind",
        old=old,
        size=size,
        reason="it shows an older state than it did; ask its operator to sign the newest",
    )


def _replaced(outcome: Outcome, pinned: VerifierKey | None, **changes: object) -> Outcome:
    values = {name: getattr(outcome, name) for name in Outcome.__slots__}
    return Outcome(**{**values, "pinned": pinned, **changes})


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:20]
