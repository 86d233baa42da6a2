"""What a node agrees to. Its numbers are the node's own; no coordinator can lower them."""

from typing import Annotated

from pydantic import Field

from clients.contract import DataContract
from clients.frozen import Frozen
from clients.spec import Task
from privacy.errors import RefusedError
from privacy.manifest import Manifest, Protection

HIGHEST_FLOOR = 3


class NodePolicy(Frozen):
    """A node's terms.

    Attributes:
        minimum_cohort: Fewest members in a sum that this node's vector may be part of. With two,
            each could subtract its own and read the other's.
        tasks: Tasks that the node takes part in.
        sums: How sums may be protected. `ckks` lets the coordinator and any one member read
            every vector, `clear` the coordinator alone; data of class L1 may go in the clear.
    """

    minimum_cohort: Annotated[int, Field(ge=2)] = HIGHEST_FLOOR
    tasks: tuple[Task, ...] = ("failure", "claims", "credit")
    sums: tuple[Protection, ...] = ("masked", "sealed")


def refusals(manifest: Manifest, policy: NodePolicy, contract: DataContract) -> list[str]:
    """Why this node would refuse a run, each reason one sentence; empty if it would not."""
    reasons: list[str] = []
    if manifest.task not in policy.tasks:
        reasons.append(f"The node's policy allows no task {manifest.task!r}.")
    if manifest.contract != contract.digest:
        reasons.append(
            f"The run was planned for another data contract than {contract.name!r} here; "
            "agree on one contract and plan again."
        )
    if manifest.minimum_cohort < policy.minimum_cohort:
        reasons.append(
            f"The run opens sums of {manifest.minimum_cohort} members; this node insists on at "
            f"least {policy.minimum_cohort}: set minimum_cohort."
        )
    if manifest.unit != contract.unit:
        reasons.append(
            f"The run protects {manifest.unit!r} where the contract names {contract.unit!r}; "
            "plan again."
        )
    if manifest.node_settings.get("task") != manifest.task:
        reasons.append("The run's manifest names two different tasks; plan again.")
    public = all(column.data_class == "L1" for column in contract.columns)
    if manifest.protection not in policy.sums and not (manifest.protection == "clear" and public):
        reasons.append(
            f"The run asks for {manifest.protection!r} sums of data above class L1; this node's "
            f"policy allows {', '.join(policy.sums)}: set protection.sum."
        )
    if manifest.group_size and manifest.group_size < policy.minimum_cohort:
        reasons.append(
            f"The run opens sums of groups of {manifest.group_size} members; this node insists on "
            f"at least {policy.minimum_cohort}: set protection.group_size."
        )
    return reasons


def check_manifest(manifest: Manifest, policy: NodePolicy, contract: DataContract) -> None:
    """Hold a run against the node's terms.

    Raises:
        RefusedError: The run asks for less than the node insists on; the first reason.
    """
    for reason in refusals(manifest, policy, contract):
        raise RefusedError(reason)
