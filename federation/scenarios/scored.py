"""A trained table model, as whoever holds its file asks it."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from clients.contract import DataContract
from clients.model import build, from_vector, tensors
from clients.model_file import parse_model
from clients.spec import NodeSpec, parse_node_spec
from clients.table_features import TableFeatures
from clients.targets import label_cap, tally_kind
from clients.train import target_of

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class TableModel:
    """A model of a run without noise, and the statistics that bring rows to scale."""

    contract: DataContract
    spec: NodeSpec
    weights: NDArray[np.float32]
    statistics: tuple[Floats, ...]

    def said(self, rows: pd.DataFrame) -> Floats:
        """What it says of each row, shape (n,): a chance, a rate, or a value."""
        import torch

        features = TableFeatures(self.contract, self.spec)
        ready = rows.assign(__y=0.0, __exposure=1.0)
        for column in features.categories:
            known = pd.CategoricalDtype(list(column.categories))
            ready[column.name] = ready[column.name].astype(known)
        network = build(self.spec.model, features.shape(self.statistics), seed=0)
        from_vector(network, self.weights)
        network.eval()
        examples = features.examples(ready, self.statistics)
        with torch.no_grad():
            out = network(*tensors(network, examples, torch.device("cpu"))).numpy()
        cap = label_cap(self.contract)
        overview = features.overview(self.statistics)
        target = target_of(tally_kind(self.contract), cap, overview, self.spec.training)
        factor, shift = target.own_scale
        return target.value(factor * out.astype(np.float64) + shift)


def read_table_model(path: Path, contract: DataContract) -> TableModel:
    """Read one.

    Raises:
        NotVerifiedError: Its weights were changed.
    """
    tensors, said = parse_model(path.read_bytes(), str(path))
    names = sorted(name for name in tensors if name.startswith("statistics."))
    statistics = tuple(np.asarray(tensors[name], np.float64) for name in names)
    about = json.loads(said["node_settings"])
    return TableModel(contract, parse_node_spec(about), tensors["model"], statistics)
