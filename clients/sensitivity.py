"""How much one unit can change what a member contributes, by contract and settings alone."""

from clients.contract import DataContract
from clients.spec import NodeSpec
from clients.table_features import TableFeatures
from clients.targets import tally_kind
from clients.window_features import WindowFeatures
from privacy.private_tally import private_sensitivity


def sensitivities(contract: DataContract, spec: NodeSpec) -> tuple[float, float]:
    """L2 norms by which one unit can change a member's statistics, and its evaluations.

    Both follow from the contract's ranges and the run's settings alone, not from rows.

    Raises:
        InputError: The contract lacks a bound that noise needs, or the settings need statistics
            that noise would drown.
    """
    features: TableFeatures | WindowFeatures = (
        TableFeatures(contract, spec, private="unit")
        if spec.features.window is None
        else WindowFeatures(contract, spec, spec.features.window, private="unit")
    )
    return features.sensitivity, private_sensitivity(tally_kind(contract))
