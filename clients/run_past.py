"""What a node's own ledger says of a run, against what was kept of the run elsewhere."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from privacy.budget_record import ABORTED, COMMITTED, RESERVED
from privacy.errors import NotVerifiedError
from privacy.ledger.entry import parse_leaf

Steps = frozenset[tuple[str, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPast:
    """See the module.

    Attributes:
        joined: Digests (hex) of the manifests under which a run of that name was joined.
        rows: Hash (hex) of the rows that it is about; empty before they were noted.
        reserved: Steps with their round whose cost is on record, whatever became of them.
        committed: Those whose sum was accepted.
        aborted: Those of which nothing left.
    """

    joined: frozenset[str]
    rows: str
    reserved: Steps
    committed: Steps
    aborted: Steps

    @property
    def pending(self) -> Steps:
        """Steps that count, and whose sum was not noted as accepted."""
        return self.reserved - self.committed - self.aborted

    def require_known(
        self,
        *,
        sealed: Collection[tuple[str, int]],
        settled: Collection[tuple[str, int]],
        under_way: tuple[str, int] | None = None,
    ) -> None:
        """Return if what was kept of the run knows all that the ledger does, and the other way.

        Args:
            sealed: Steps that were sealed, as it was kept; that is written before they cost.
            settled: Steps whose sums were accepted; that is written before it is noted.
            under_way: The step that a vector is kept of; that is written after it cost.

        Raises:
            NotVerifiedError: One of them is an old copy.
        """
        if not self.reserved <= set(sealed) or not self.committed <= set(settled):
            raise NotVerifiedError("what this node kept of the run is older than its own ledger")
        if under_way is not None and under_way not in self.reserved - self.aborted:
            raise NotVerifiedError(
                "this node's own ledger does not have what the vector under way cost"
            )


def run_past(leaves: Iterable[bytes], run: str) -> RunPast:
    """Read all that a node's ledger says of one run.

    Raises:
        NotVerifiedError: The ledger is broken.
    """
    joined: set[str] = set()
    rows = ""
    steps: dict[str, set[tuple[str, int]]] = {RESERVED: set(), COMMITTED: set(), ABORTED: set()}
    told = f'"{run}"'.encode()  # a look at the bytes spares parsing every entry
    for leaf in leaves:
        if told not in leaf:
            continue
        entry = parse_leaf(leaf)
        body = entry.body
        if body.get("run") != run:
            continue
        if entry.kind == "run.joined":
            joined.add(str(body["manifest"]))
        elif entry.kind == "rows.read":
            rows = str(body["rows"])
        elif entry.kind in steps:
            steps[entry.kind].add((str(body["step"]), int(str(body["round"]))))
    return RunPast(
        joined=frozenset(joined),
        rows=rows,
        reserved=frozenset(steps[RESERVED]),
        committed=frozenset(steps[COMMITTED]),
        aborted=frozenset(steps[ABORTED]),
    )
