"""A model as one safetensors file: weights, the opened statistics, and how to rebuild it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from privacy.canonical import canonical_json
from privacy.errors import NotVerifiedError
from privacy.manifest import Manifest
from privacy.messages import vector_digest

MODEL_FORMAT = "tacit-model-1"


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


def load_model(path: Path) -> NDArray[np.float32]:
    """The weights of a stored model.

    Raises:
        NotVerifiedError: They are not those whose digest was stored beside them, or the file is
            none of this format.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            model = np.asarray(file.get_tensor("model"), dtype=np.float32)
            digest = (file.metadata() or {}).get("digest")
    except (SafetensorError, KeyError, ValueError, TypeError, AttributeError):
        raise NotVerifiedError(f"{path}: is no model, or is damaged; fetch it again.") from None
    if digest != vector_digest(model).hex():
        raise NotVerifiedError(f"{path}: the weights were changed since the run; fetch it again.")
    return model
