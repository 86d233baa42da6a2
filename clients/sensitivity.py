"""How much one unit can change what a member contributes, by contract and settings alone."""

from clients.contract import DataContract
from clients.features import features_of
from clients.spec import NodeSpec
from clients.targets import tally_kind
from privacy.private_tally import private_sensitivity


def sensitivities(contract: DataContract, spec: NodeSpec) -> tuple[float, float]:
    """L2 norms by which one unit can change a member's statistics, and its evaluations.

    Both follow from the contract's ranges and the run's settings alone, not from rows.

    Raises:
        InputError: The contract lacks a bound that noise needs, or the settings need statistics
            that noise would drown.
    """
    features = features_of(contract, spec, private="unit")
    return features.sensitivity, private_sensitivity(tally_kind(contract))
