"""Positions of a ViT are interpolated in the graph as in torch, for any size and batch."""

import numpy as np
import torch
from torch import nn

from pipeline.backbones.vit import PatchStem
from pipeline.data.views import normalise
from pipeline.export.onnx_files import open_session, write_onnx
from tests.export.conftest import make_photo

GRID, WIDTH = 6, 8


class StemGraph(nn.Module):
    """What `write_onnx` needs of a graph, around the stem alone."""

    output = "tokens"

    def __init__(self) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        # positions that outweigh the patches, so that nothing else decides
        positions = nn.Parameter(10 * torch.randn(1, 1 + GRID**2, WIDTH, generator=draw))
        self.stem = PatchStem(nn.Conv2d(3, WIDTH, 16, 16), nn.Parameter(torch.zeros(1, 1, WIDTH)), positions)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.stem(normalise(images))


def test_positions_are_interpolated_for_any_size_and_batch(tmp_path):
    graph = StemGraph().eval().requires_grad_(False)
    write_onnx(graph, tmp_path / "stem.onnx", channels=3, notes={})
    session = open_session(tmp_path / "stem.onnx", 1)
    for count, height, width in [(1, 96, 96), (3, 32, 64), (2, 64, 224), (1, 320, 192), (1, 32, 32)]:
        images = np.stack([make_photo(height, width, seed).transpose(2, 0, 1) for seed in range(count)])
        (found,) = session.run(None, {"images": images})
        expected = graph(torch.from_numpy(images)).numpy()
        assert found.shape == (count, 1 + height * width // 256, WIDTH)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
