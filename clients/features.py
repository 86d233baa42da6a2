"""Which preparation of rows a run has: of a table, or of telemetry's windows."""

from typing import Literal, TypeAlias

from clients.contract import DataContract
from clients.spec import NodeSpec
from clients.table_features import TableFeatures
from clients.window_features import WindowFeatures

Features: TypeAlias = TableFeatures | WindowFeatures


def features_of(
    contract: DataContract, spec: NodeSpec, *, private: Literal["none", "unit", "organisation"]
) -> Features:
    """The preparation; `private` says whose part in a tally is bounded, `none` without noise."""
    window = spec.features.window
    if window is None:
        return TableFeatures(contract, spec, private=private)
    return WindowFeatures(contract, spec, window, private=private)
