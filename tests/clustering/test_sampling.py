import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.clustering.sampling import sample_rows


@given(counts=st.lists(st.integers(0, 20), min_size=1, max_size=30), data=st.data())
def test_sample_takes_the_same_share_of_every_image(counts: list[int], data: st.DataObject) -> None:
    everything = sum(counts)
    total = data.draw(st.integers(0, everything + 5))
    rows = sample_rows(counts, total, seed=data.draw(st.integers(0, 3)))
    assert len(rows) == min(total, everything)
    assert (np.diff(rows) > 0).all()
    image = np.repeat(np.arange(len(counts)), counts)
    taken = np.bincount(image[rows], minlength=len(counts))
    assert (np.abs(taken - np.array(counts) * len(rows) / max(1, everything)) < 1).all()


def test_sample_is_seeded() -> None:
    first, again, other = (sample_rows([50] * 20, 100, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    images = {tuple(sample_rows([1] * 30, 10, seed).tolist()) for seed in range(9)}
    assert len(images) > 1
