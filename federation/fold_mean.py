"""What several folds come to."""

from collections.abc import Mapping, Sequence

import numpy as np


def fold_mean(many: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean of each metric over folds, where all have it; the noise of a mean is less."""
    if not many:
        return {}
    names = [name for name in many[0] if all(name in one for one in many)]
    return {
        name: float(
            np.linalg.norm([one[name] for one in many]) / len(many)
            if name.endswith("_noise")
            else np.mean([one[name] for one in many])
        )
        for name in names
    }
