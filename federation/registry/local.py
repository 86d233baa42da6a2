"""Ledgers at hand, a home's or a bundle's, as logs to witness: no network is needed."""

from federation.evidence import Evidence, LedgerView
from federation.registry.log_key import first_key
from federation.registry.source import AbsentError, LogInfo
from privacy.errors import NotVerifiedError
from privacy.ledger.checkpoint import parse_checkpoint_text
from privacy.ledger.merkle import Frontier
from privacy.ledger.note import parse_note
from privacy.ledger.rotation import Rotation, rotations_among
from privacy.ledger.store import checked_frontier, prove_consistency, prove_inclusion


class LocalSource:
    """`source.Source` over evidence. Every entry is hashed anew before its state is shown."""

    def __init__(self, evidence: Evidence, *, place: str) -> None:
        """Take evidence as it is.

        Args:
            evidence: Ledgers; nothing of them needs to have been checked.
            place: Where they are, for sentences to people.
        """
        self.place = place
        self.lines: list[tuple[str, str]] = []
        self._views: dict[str, LedgerView] = {view.origin: view for view in evidence.views}

    def logs(self) -> tuple[LogInfo, ...]:
        """See the Protocol."""
        return tuple(
            LogInfo(view.origin, view.store.size(), first_key(view))
            for view in self._views.values()
        )

    def checkpoint(self, origin: str) -> bytes:
        """Return the newest signed note, if the ledger's entries have the root in it.

        Raises:
            AbsentError: there is none, or no such log.
            NotVerifiedError: the entries have another root.
        """
        view = self._view(origin)
        kept = view.store.checkpoints()
        if not kept:
            raise AbsentError(f"{origin} has no signed checkpoint in {self.place}")
        note = kept[-1][1]
        told = parse_checkpoint_text(parse_note(note).text)
        tree = checked_frontier(view.store, since=Frontier(), size=told.size)
        if tree.root() != told.root:
            raise NotVerifiedError(
                f"the entries of {origin} in {self.place} are not those that its log signed; "
                "get them again, and ask its operator"
            )
        return note

    def consistency(self, origin: str, old: int, new: int) -> tuple[bytes, ...]:
        """See the Protocol."""
        view = self._view(origin)
        if new > view.store.size():
            raise AbsentError(f"{origin} has only {view.store.size()} entries in {self.place}")
        return prove_consistency(view.store, old, new)

    def rotations(self, origin: str, old: int, new: int) -> tuple[Rotation, ...]:
        """See the Protocol."""
        store = self._view(origin).store
        if new > store.size():
            raise AbsentError(f"{origin} has only {store.size()} entries in {self.place}")
        return tuple(
            Rotation(leaf, index, prove_inclusion(store, index, new))
            for index, leaf in rotations_among(store.leaves(old, new), old)
        )

    def submit(self, origin: str, size: int, line: str) -> None:
        """Keep the line in `lines`: to send it is for whoever asked."""
        del size
        self.lines.append((origin, line))

    def _view(self, origin: str) -> LedgerView:
        view = self._views.get(origin)
        if view is None:
            raise AbsentError(f"there is no ledger {origin} in {self.place}")
        return view
