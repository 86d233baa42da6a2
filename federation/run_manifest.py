"""The one document of a run: a config, with who takes part and where it is recorded."""

from collections.abc import Mapping

from federation.config import Project
from privacy.manifest import Manifest
from privacy.plan import PrivacyPlan
from privacy.suites import SuiteId


def make_manifest(
    project: Project,
    *,
    run: str,
    directory: Mapping[str, bytes],
    ledger: Mapping[str, str],
    seed: int,
    fold: int | None,
    plan: PrivacyPlan | None,
    countersigned: bool = False,
    suite: SuiteId | None = None,
) -> Manifest:
    """Return a run's manifest.

    Args:
        project: The config and its contract.
        run: The run's name.
        directory: Member -> its public key, pinned.
        ledger: `origin` and `key` of the coordinator's ledger, the key in hexadecimal; and, in a
            federation, what the launcher saw of its membership (`Membership.told`).
        seed: Of the initial model and of shuffling.
        fold: Which fold tests; None without folds.
        plan: The run's noise; None without.
        countersigned: Whether a second member has to sign it before it is shown to all.
        suite: The federation's; None: the config's.
    """
    config, contract = project.config, project.contract
    return Manifest(
        run=run,
        name=config.name,
        task=config.task,
        unit=contract.unit,
        contract=contract.digest,
        directory={member: key.hex() for member, key in directory.items()},
        minimum_cohort=config.minimum_cohort,
        protection=config.protection.sum,
        suite=suite or config.protection.suite or "intl",
        group_size=config.group_size,
        privacy=plan,
        ledger=dict(ledger),
        node_settings=config.node_settings(seed=seed, fold=fold),
        coordinator_settings=config.coordinator_settings(countersigned=countersigned),
    )
