"""Centring, optional whitening and unit norm of feature vectors, fitted on train images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# A vector that is this much shorter after centring than before is rounding noise: it lies on the mean.
NOISE = 1e-6
# Components with less of the largest component's variance are rounding noise: whitening must not amplify them.
RANK_TOLERANCE = 1e-10


class Moments:
    """Sums of vectors, from which mean and covariance follow; float64, so that the order of adding is all that counts.

    Attributes:
        count: Vectors added.
        total: Their sum (D,).
        products: Sum of their outer products (D, D), or None if they are not needed.
    """

    def __init__(self, dimension: int, *, second: bool) -> None:
        """Start at zero; `second` asks for the outer products."""
        self.count = 0
        self.total = np.zeros(dimension)
        self.products = np.zeros((dimension, dimension)) if second else None

    def add(self, vectors: np.ndarray) -> None:
        """Add the rows of a finite array (N, D)."""
        rows = vectors.astype(np.float64)
        self.count += len(rows)
        self.total += rows.sum(axis=0)
        if self.products is not None:
            self.products += rows.T @ rows


@dataclass(frozen=True)
class Standardiser:
    """Brings vectors to unit norm after centring and, optionally, PCA whitening.

    Attributes:
        mean: float64 (D,), of the train vectors.
        whitening: float64 (D, components) whose columns are principal axes divided by the standard deviation along
            them, or None.
    """

    mean: np.ndarray
    whitening: np.ndarray | None

    @classmethod
    def fit(cls, moments: Moments, components: int) -> Standardiser:
        """Fit on sums over train vectors.

        Args:
            moments: At least one vector; with outer products if `components` is not 0.
            components: Principal components to keep and whiten, at most D; 0 centres only.

        Returns:
            The transform. The largest entry of each axis is positive, so that it does not depend on the solver.
            Axes without variance give zeros.
        """
        mean = moments.total / moments.count
        if not components:
            return cls(mean, None)
        if moments.products is None:
            raise ValueError("whitening needs the sums of outer products")
        covariance = moments.products / moments.count - np.outer(mean, mean)
        variances, axes = np.linalg.eigh(covariance)
        variances, axes = variances[::-1][:components], axes[:, ::-1][:, :components]
        axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
        # second moments carry the rounding errors of the mean's square as well
        floor = RANK_TOLERANCE * max(float(variances[0]), float(mean @ mean))
        kept = variances > floor
        scale = np.where(kept, 1.0 / np.sqrt(np.where(kept, variances, 1.0)), 0.0)
        return cls(mean, axes * scale)

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """Transform finite vectors.

        Args:
            vectors: float32 (..., D).

        Returns:
            float16 (..., D or components), rows of unit norm; a vector that lies on the mean becomes zero.
        """
        values = vectors.astype(np.float64)
        lengths = np.linalg.norm(values, axis=-1, keepdims=True)
        values -= self.mean
        norms = np.linalg.norm(values, axis=-1, keepdims=True)
        flat = norms <= NOISE * lengths
        if self.whitening is not None:
            values = values @ self.whitening
            norms = np.linalg.norm(values, axis=-1, keepdims=True)
        flat |= norms == 0
        values /= np.where(flat, 1.0, norms)
        np.copyto(values, 0.0, where=flat)
        return values.astype(np.float16)
