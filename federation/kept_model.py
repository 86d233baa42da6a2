"""A finished run's model, taken from its folder and held against what its manifest says."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clients.contract import DataContract, load_contract
from clients.model_file import load_model
from clients.spec import NodeSpec, parse_node_spec
from privacy.errors import InputError, NotVerifiedError, ProtocolError
from privacy.manifest import Manifest
from privacy.messages import vector_digest

if TYPE_CHECKING:
    from clients.additive import AdditiveModel

Floats = NDArray[np.float64]
WEIGHTS = "model.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptModel:
    """A model with what is needed to use it.

    Attributes:
        run: Its run's id.
        manifest: What the run's members agreed on.
        contract: What rows mean; it has the digest that the manifest names.
        spec: How it was made.
        released: The opened statistics.
        weights: Shape (d,).
        digest: Of the weights, hex.
    """

    run: str
    manifest: Manifest
    contract: DataContract
    spec: NodeSpec
    released: tuple[Floats, ...]
    weights: NDArray[np.float32]
    digest: str

    def additive(self) -> "AdditiveModel":
        """One curve for each column.

        Raises:
            RefusedError: The model is no sum of curves, so its scores would have no reasons.
            NotVerifiedError: The weights are not this run's, or break what its contract promises.
        """
        from clients.learner import Learner
        from clients.model import from_vector

        learner = Learner(self.contract, self.spec, "cpu", plan=self.manifest.privacy)
        learner.start(self.released)
        try:
            from_vector(learner.network, self.weights)
        except ValueError:
            raise NotVerifiedError(
                f"{self.run}: the weights do not fit the run's manifest; fetch the model again."
            ) from None
        held = learner.hold(self.weights.astype(np.float64)).astype(np.float32)
        if not np.array_equal(held, self.weights):
            raise NotVerifiedError(
                f"{self.run}: a curve breaks what the contract calls monotone; fetch the model "
                f"again."
            )
        return learner.additive(self.released)


def read_kept_model(folder: Path) -> KeptModel:
    """Read the model of a run's folder.

    Raises:
        InputError: The run has no model here.
        NotVerifiedError: Weights, contract or manifest are not those of the run.
    """
    from safetensors import SafetensorError, safe_open

    for name in (WEIGHTS, "manifest.json", "contract.yaml"):
        if not (folder / name).is_file():
            raise InputError(
                f"{folder.name}: has no {name} here; choose a finished run, see tacit model list."
            )
    contract = load_contract(folder / "contract.yaml")
    path = folder / WEIGHTS
    try:
        manifest = Manifest.from_bytes((folder / "manifest.json").read_bytes())
        weights = load_model(path)
        with safe_open(path, framework="numpy") as file:
            stages = sorted(key for key in file.keys() if key.startswith("statistics."))  # noqa: SIM118 - it is no dictionary
            released = tuple(np.asarray(file.get_tensor(k), dtype=np.float64) for k in stages)
            run = (file.metadata() or {}).get("run")
    except (SafetensorError, ProtocolError, KeyError):
        raise NotVerifiedError(
            f"{folder.name}: the model or its manifest is not as it was written; fetch it again."
        ) from None
    if contract.digest != manifest.contract or run != manifest.run:
        raise NotVerifiedError(
            f"{folder.name}: contract, manifest and model are not of one run; fetch them again."
        )
    return KeptModel(
        run=folder.name,
        manifest=manifest,
        contract=contract,
        spec=parse_node_spec(dict(manifest.node_settings)),
        released=released,
        weights=weights,
        digest=vector_digest(weights).hex(),
    )
