import subprocess
import sys
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.runtime.randomness import generator, uniforms

ROOT = Path(__file__).parents[2]
SEEDS = st.integers(0, 2**31 - 1)


@given(SEEDS, st.text(max_size=8), st.lists(st.integers(0, 10**6), max_size=3))
def test_equal_keys_give_equal_numbers(seed, purpose, indices):
    one, two = generator(seed, purpose, *indices), generator(seed, purpose, *indices)
    one.random(3)  # what was drawn from one does not reach another of the same key
    three = generator(seed, purpose, *indices)
    np.testing.assert_array_equal(two.random(8), three.random(8))


def test_any_part_of_the_key_changes_the_numbers():
    keys = [
        (0, "a"),
        (1, "a"),
        (0, "b"),
        (0, "a", 0),
        (0, "a", 1),
        (0, "a", 0, 1),
        (0, "a", 1, 0),
        (0, "a", 10),
        (0, ""),
    ]
    drawn = {generator(*key).integers(2**62) for key in keys}
    assert len(drawn) == len(keys)


@given(SEEDS, st.integers(0, 50), st.lists(st.integers(0, 100), min_size=1, max_size=6), st.integers(1, 5))
def test_a_row_depends_on_its_sample_only(seed, epoch, samples, count):
    batch = uniforms(seed, "p", epoch, samples, count)
    assert batch.shape == (len(samples), count)
    assert batch.min() >= 0
    assert batch.max() < 1
    for row, sample in zip(batch, samples, strict=True):
        np.testing.assert_array_equal(row, uniforms(seed, "p", epoch, [sample], count)[0])


def test_numbers_are_uniform_and_samples_independent():
    drawn = uniforms(0, "p", 0, range(2000), 3)
    np.testing.assert_allclose(drawn.mean(0), 0.5, atol=0.03)
    np.testing.assert_allclose(drawn.var(0), 1 / 12, atol=0.01)
    assert abs(np.corrcoef(drawn[:-1, 0], drawn[1:, 0])[0, 1]) < 0.08
    assert abs(np.corrcoef(drawn[:, 0], drawn[:, 1])[0, 1]) < 0.08


def test_other_processes_draw_the_same_numbers():
    code = "from pipeline.runtime.randomness import generator; print(generator(3, 'views', 5).integers(2**62))"
    command = [sys.executable, "-c", code]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert int(output) == generator(3, "views", 5).integers(2**62)
