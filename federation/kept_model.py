"""A finished run's model, taken from its folder and held against what its manifest says."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clients.contract import DataContract, load_contract
from clients.model_file import opened_model, parse_model
from clients.policy import highest_class
from clients.spec import NodeSpec, parse_node_spec
from clients.vault import is_sealed_file
from clients.vault_folder import folder_vault
from federation.home import Home
from federation.record import awaits_watching
from privacy.errors import InputError, NotVerifiedError, ProtocolError
from privacy.manifest import Manifest
from privacy.messages import vector_digest
from privacy.randomness import system_bytes

if TYPE_CHECKING:
    from clients.additive import AdditiveModel
    from clients.attributed import AttributedModel
    from clients.learner import Learner
    from clients.window_model import Against, WindowModel

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
        file: SHA-256 of the file that they lie in, as the ledger registered it.
    """

    run: str
    manifest: Manifest
    contract: DataContract
    spec: NodeSpec
    released: tuple[Floats, ...]
    weights: NDArray[np.float32]
    digest: str
    file: str

    def learner(self) -> "Learner":
        """The model, ready to score.

        Raises:
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
        return learner

    def additive(self) -> "AdditiveModel":
        """One curve for each column.

        Raises:
            RefusedError: The model is no sum of curves, so its scores have no exact reasons.
        """
        return self.learner().additive(self.released)

    def explained(
        self, against: "Against" = "members"
    ) -> "AdditiveModel | AttributedModel | WindowModel":
        """The model as its scores are explained: exactly where that can be, else attributed.

        Args:
            against: What readings of windows are measured against.
        """
        return self.learner().explained(self.released, against=against)


def folds_of(folder: Path) -> int:
    """How many folds a run's folder holds models of; 0 for a run without folds."""
    return sum(1 for _ in folder.glob("model.*.safetensors"))


def require_fold(folder: Path, fold: int | None) -> None:
    """Raise InputError if a fold is named, counted from 1, that a run's folder has no model of."""
    folds = folds_of(folder)
    if fold is not None and not 1 <= fold <= folds:
        has = f"has {folds} folds" if folds else "has no folds; leave --fold out"
        raise InputError(f"--fold {fold}: {folder.name} {has}.")


def model_of(folder: Path, contract: DataContract, run: str, name: str = WEIGHTS) -> bytes:
    """A model in a run's folder, opened with the vault of its home's node where it is sealed.

    Args:
        folder: `<home>/runs/<run>`.
        contract: The run's.
        run: Its id in the manifest.
        name: The model's file.

    Raises:
        NotVerifiedError: It is sealed and does not open.
        InputError: It, or the vault's key, cannot be read.
    """
    node = Home(folder.parent.parent).own_node
    sealed = is_sealed_file(folder / name)
    vault = folder_vault(node, highest_class(contract), system_bytes) if sealed else None
    return opened_model(folder / name, run, vault)


def read_kept_model(folder: Path, *, fold: int | None = None) -> KeptModel:
    """Read the model of a run's folder, `<home>/runs/<run>`.

    Args:
        folder: The run's.
        fold: Which model of a run with folds, from 1; None for a run without.

    Raises:
        InputError: The run has no model here, or its vault's key cannot be had.
        NotVerifiedError: Weights, contract or manifest are not those of the run.
    """
    weights_name, manifest_name = WEIGHTS, "manifest.json"
    if fold is not None:
        weights_name, manifest_name = f"model.{fold}.safetensors", f"manifest.{fold}.json"
    elif folds := folds_of(folder):
        raise InputError(
            f"{folder.name}: has {folds} models, one of each fold, made to test with; explain and "
            f"card take --fold, and a launch with another split makes one model to use."
        )
    for name in (weights_name, manifest_name, "contract.yaml"):
        if not (folder / name).is_file():
            if awaits_watching(folder):
                raise InputError(
                    f"{folder.name}: has no {name} here yet, as its launch was not watched to its "
                    f"end; fetch it with tacit run watch {folder.name}."
                )
            raise InputError(
                f"{folder.name}: has no {name} here; choose a finished run, see tacit model list."
            )
    contract = load_contract(folder / "contract.yaml")
    try:
        manifest = Manifest.from_bytes((folder / manifest_name).read_bytes())
        data = model_of(folder, contract, manifest.run, weights_name)
        tensors, about = parse_model(data, folder.name)
    except ProtocolError:
        raise NotVerifiedError(
            f"{folder.name}: the model or its manifest is not as it was written; fetch it again."
        ) from None
    stages = sorted(key for key in tensors if key.startswith("statistics."))
    released = tuple(np.asarray(tensors[key], dtype=np.float64) for key in stages)
    if contract.digest != manifest.contract or about.get("run") != manifest.run:
        raise NotVerifiedError(
            f"{folder.name}: contract, manifest and model are not of one run; fetch them again."
        )
    return KeptModel(
        run=folder.name,
        manifest=manifest,
        contract=contract,
        spec=parse_node_spec(dict(manifest.node_settings)),
        released=released,
        weights=tensors["model"],
        digest=vector_digest(tensors["model"]).hex(),
        file=hashlib.sha256(data).hexdigest(),
    )
