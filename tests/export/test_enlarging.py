import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.export import enlarging
from pipeline.export.enlarging import Labeller


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_labels_are_those_of_the_whole_enlarged_map_however_it_is_cut(data):
    rows, cols = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 9))
    size = data.draw(st.integers(1, 60)), data.draw(st.integers(1, 50))
    cuts = sorted(data.draw(st.sets(st.integers(1, rows), max_size=4)) | {rows})
    at_once = data.draw(st.sampled_from([1, 100, 2**23]))
    scores = torch.rand(3, rows, cols, generator=torch.Generator().manual_seed(rows * cols))
    labeller = Labeller(rows, size, 3)
    before, enlarging.AT_ONCE = enlarging.AT_ONCE, at_once
    try:
        for start, end in zip([0, *cuts], cuts, strict=False):
            labeller.add(scores[:, start:end])
    finally:
        enlarging.AT_ONCE = before
    enlarged = F.interpolate(scores[None], size, mode="bilinear", align_corners=False)[0]
    chosen = enlarged.gather(0, torch.from_numpy(labeller.labels.astype(np.int64))[None])[0]
    assert torch.allclose(chosen, enlarged.max(0).values, atol=1e-5)


@pytest.mark.parametrize(("k", "dtype"), [(2, np.uint8), (256, np.uint8), (257, np.uint16)])
def test_labels_take_no_more_memory_than_they_need(k, dtype):
    assert Labeller(2, (4, 4), k).labels.dtype == dtype
