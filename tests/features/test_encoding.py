import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.features.encoding import encode_cells
from pipeline.features.pooling import pool_cells


def frames(seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (2, 3, 16, 24), dtype=np.uint8))


def encode(batch: torch.Tensor) -> torch.Tensor:
    assert batch.dtype == torch.uint8
    return torch.nn.functional.avg_pool2d(batch.float(), 4)  # (B, 3, 4, 6)


def no_stop() -> None:
    return None


def test_pool_encodes_a_frame_once() -> None:
    calls = []

    def counted(batch: torch.Tensor) -> torch.Tensor:
        calls.append(len(batch))
        return encode(batch)

    cells = encode_cells(frames(), [1, 2], counted, mode="pool", check_stop=no_stop)
    assert calls == [2]
    expected = torch.cat([pool_cells(encode(frames()), 1), pool_cells(encode(frames()), 2)], dim=1)
    torch.testing.assert_close(cells, expected)


def test_crop_encodes_each_cell_at_the_size_of_the_frame() -> None:
    seen = []

    def noted(batch: torch.Tensor) -> torch.Tensor:
        seen.append(batch)
        return encode(batch)

    cells = encode_cells(frames(), [1, 2], noted, mode="crop", check_stop=no_stop)
    assert cells.shape == (2, 5, 3)
    assert [batch.shape for batch in seen] == [frames().shape] * 5
    torch.testing.assert_close(seen[0], frames(), rtol=0, atol=0)
    # the fourth cell of level 2, second image, against Pillow's antialiased bilinear filter
    cut = Image.fromarray(frames()[1, :, 8:, 12:].permute(1, 2, 0).numpy())
    expected = np.asarray(cut.resize((24, 16), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    assert np.abs(seen[4][1].int().numpy() - expected).max() <= 1
    torch.testing.assert_close(cells[:, 4], encode(seen[4]).mean(dim=(2, 3)))


def test_a_cell_has_at_least_one_pixel() -> None:
    cells = encode_cells(frames()[..., :4, :4], [8], lambda x: x.float(), mode="crop", check_stop=no_stop)
    assert cells.shape == (2, 64, 3)
    assert cells.isfinite().all()


@pytest.mark.parametrize("mode", ["pool", "crop"])
def test_stops_before_encoding(mode: str) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    def never(batch: torch.Tensor) -> torch.Tensor:
        pytest.fail("encoded after a stop")

    with pytest.raises(KeyboardInterrupt):
        encode_cells(frames(), [2], never, mode=mode, check_stop=stop)  # type: ignore[arg-type]
