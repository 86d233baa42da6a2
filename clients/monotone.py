"""What a run has to do for a contract that calls columns monotone; reads no row and no weight."""

from clients.contract import Column, DataContract
from clients.spec import NodeSpec
from privacy.errors import RefusedError


def monotone_columns(contract: DataContract, spec: NodeSpec) -> tuple[Column, ...]:
    """The columns that a run reads and its contract calls monotone."""
    without = spec.features.without
    return tuple(
        column
        for column in contract.inputs
        if column.monotone is not None and column.name not in without
    )


def require_held(contract: DataContract, spec: NodeSpec) -> None:
    """Return if a run can keep what its contract says of monotone columns.

    Raises:
        RefusedError: Its model is no sum of curves, so nothing would hold them.
    """
    named = [column.name for column in monotone_columns(contract, spec)]
    if named and not spec.is_additive:
        raise RefusedError(
            f"The contract calls {', '.join(named)} monotone, which only an additive model keeps; "
            f"set model: {{hidden: []}}, or leave the column out by features.without."
        )
