"""How many directions a set of embeddings uses."""

from __future__ import annotations

import numpy as np


def effective_rank(points: np.ndarray) -> float:
    """How many directions the embeddings use: exp of the entropy of their singular values (Roy & Vetterli 2007).

    They are not centred. Around its mean even a network that gives one output for all pixels looks alive, because
    what is left are rounding errors in every direction.
    """
    values = np.sqrt(np.clip(np.linalg.eigvalsh(points.astype(np.float64).T @ points), 0, None))
    total = values.sum()
    if total <= 0:
        return 1.0
    shares = values[values > 0] / total
    return float(np.exp(-(shares * np.log(shares)).sum()))
