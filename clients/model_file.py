"""A model as one safetensors file: weights, the opened statistics, and how to rebuild it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.vault import Vault, is_sealed
from privacy.canonical import canonical_json
from privacy.errors import InputError, NotVerifiedError
from privacy.json_value import json_value
from privacy.manifest import Manifest
from privacy.messages import vector_digest

MODEL_FORMAT = "tacit-model-1"
_LENGTH_BYTES = 8
MODEL_KIND = "model"
"""Of a sealed one's label; its id there is the run's."""


def model_bytes(
    model: NDArray[np.float32],
    statistics: Sequence[NDArray[np.float64]],
    manifest: Manifest,
    architecture: bytes,
) -> bytes:
    """All that a prediction needs, as the bytes of a safetensors file."""
    from safetensors.numpy import save

    tensors: dict[str, NDArray[Any]] = {"model": model}
    for stage, released in enumerate(statistics):
        tensors[f"statistics.{stage}"] = released
    about = {
        "format": MODEL_FORMAT,
        "run": manifest.run,
        "task": manifest.task,
        "contract": manifest.contract,
        "architecture": architecture.hex(),
        "digest": vector_digest(model).hex(),
        "node_settings": canonical_json(dict(manifest.node_settings)).decode(),
    }
    return bytes(save(tensors, metadata=about))


def opened_model(path: Path, run: str, vault: Vault | None) -> bytes:
    """A stored model's bytes as `model_bytes` made them, opened where they are sealed.

    Args:
        path: Its file.
        run: The run's id.
        vault: Of the node whose model it is; None: it has none.

    Raises:
        NotVerifiedError: They are sealed, and with another key, for another run, or damaged.
        InputError: They cannot be read now.
    """
    try:
        data = path.read_bytes()
    except OSError as failure:
        raise InputError(f"{path}: cannot be read ({failure.strerror}).") from None
    if not is_sealed(data):
        return data
    if vault is None:
        raise NotVerifiedError(f"{path}: is sealed, and this home has no key for it.")
    return vault.unseal(MODEL_KIND, run, data)


def load_model(path: Path) -> NDArray[np.float32]:
    """The weights of a stored model that is not sealed.

    Raises:
        NotVerifiedError: They are not those whose digest was stored beside them, or the file is no
            model.
        OSError: The file cannot be read.
    """
    return parse_model(path.read_bytes(), str(path))[0]["model"]


def parse_model(data: bytes, where: str) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """A model's tensors, of which `model` are the weights, shape (d,), and what is said of them.

    Raises:
        NotVerifiedError: It is no model, or the weights are not those whose digest is with them.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        tensors = load(data)
        length = int.from_bytes(data[:_LENGTH_BYTES], "little")
        about = json_value(data[_LENGTH_BYTES : _LENGTH_BYTES + length])["__metadata__"]
        tensors["model"] = model = np.asarray(tensors["model"], dtype=np.float32)
    except (SafetensorError, KeyError, ValueError, TypeError):
        raise NotVerifiedError(f"{where}: is no model; fetch it again.") from None
    if about.get("digest") != vector_digest(model).hex():
        raise NotVerifiedError(f"{where}: the weights were changed since the run; fetch it again.")
    return tensors, about
