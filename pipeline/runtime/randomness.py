"""Random numbers as a pure function of what they are for.

A generator is derived from (seed, purpose, indices…), never from how many numbers were drawn before. So a run that
resumes, another number of workers, or another order of the images draws the same numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np


def generator(seed: int, purpose: str, *indices: int) -> np.random.Generator:
    """Derive an independent generator.

    Args:
        seed: The stage's seed.
        purpose: What the numbers are for, such as "views".
        *indices: Epoch, sample, restart… in any number.

    Returns:
        A generator that depends on nothing else.
    """
    text = "/".join([str(seed), purpose, *map(str, indices)])
    key = np.frombuffer(hashlib.blake2b(text.encode(), digest_size=16).digest(), dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key))


def uniforms(seed: int, purpose: str, epoch: int, samples: Sequence[int], count: int) -> np.ndarray:
    """Draw `count` uniform numbers in [0, 1) for each sample of a batch.

    Returns:
        float64 array (len(samples), count); a row depends on its sample's index only, not on the batch.
    """
    return np.stack([generator(seed, purpose, epoch, sample).random(count) for sample in samples])
