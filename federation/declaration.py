"""What a ledger is told of the data that a run is about: names and counts, nothing of any row."""

from typing import Any

from clients.contract import DataContract


def declaration(contract: DataContract) -> dict[str, Any]:
    """Return the body of `data.declared` for runs about a contract's rows, without the run."""
    classes: dict[str, int] = {}
    for column in contract.columns:
        classes[column.data_class] = classes.get(column.data_class, 0) + 1
    governance = contract.governance
    return {
        "contract": contract.digest,
        "dataset": contract.name,
        "unit": contract.unit,
        "classes": dict(sorted(classes.items())),
        "retention_days": None if governance is None else governance.retention_days,
    }
