"""From a model's own scale to what people read; one definition for the node and the edge."""

from typing import Final, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
LinkKind: TypeAlias = Literal["binary", "count", "life", "value"]
LINKS: Final[tuple[LinkKind, ...]] = get_args(LinkKind)


def linked(kind: LinkKind, output: Floats, *, scale: float) -> Floats:
    """Outputs as people read them: a chance, a rate for one unit of exposure, or a value.

    Args:
        kind: How the label relates to the output.
        output: Log-odds, the log of a rate, or the label's unit; shape (n,).
        scale: Of `life`: the most that is said.
    """
    if kind == "binary":
        return np.asarray(1.0 / (1.0 + np.exp(-np.clip(output, -50.0, 50.0))))
    if kind == "count":
        return np.exp(np.clip(output, -30.0, 10.0))
    if kind == "life":
        return np.clip(output, 0.0, scale)
    return output
