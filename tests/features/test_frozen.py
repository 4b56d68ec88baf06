import pytest
import torch

from pipeline.backbones.encoder import Source, build_encoder
from pipeline.features.encoding import fill_batch
from pipeline.features.frozen import freeze_encoder
from pipeline.params import Precision

FRAMES = torch.randint(0, 256, (4, 3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
CPU = torch.device("cpu")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_map_does_not_depend_on_the_other_images_of_a_batch(precision: Precision) -> None:
    encode = freeze_encoder(build_encoder("resnet18", 32, 0), "decoder", device=CPU, precision=precision)
    with torch.inference_mode():
        maps = encode(FRAMES)
        for first in range(4):
            order = [(first + step) % 4 for step in range(4)]
            assert torch.equal(encode(FRAMES[order]), maps[order])
            alone = fill_batch(FRAMES[first : first + 1], 4)
            assert len(alone) == 4
            assert torch.equal(encode(alone)[0], maps[first])


@pytest.mark.parametrize("source", ["res4", "last", "decoder"])
def test_maps_have_the_channels_that_are_told(source: Source) -> None:
    encoder = build_encoder("resnet18", 32, 0)
    with torch.inference_mode():
        maps = freeze_encoder(encoder, source, device=CPU, precision="bf16")(FRAMES)
    assert maps.dtype == torch.float32
    assert maps.shape[:2] == (4, encoder.map_width(source))


def test_a_batch_that_is_too_large_for_the_device_comes_in_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, seen = build_encoder("resnet18", 32, 0).eval(), list[int]()
    forward = encoder.forward_map

    def refuse(images: torch.Tensor, source: Source) -> torch.Tensor:
        seen.append(len(images))
        if len(images) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(images, source)

    with torch.inference_mode():
        whole = freeze_encoder(encoder, "decoder", device=CPU, precision="fp32")(FRAMES)
        monkeypatch.setattr(encoder, "forward_map", refuse)
        with pytest.raises(torch.OutOfMemoryError):
            freeze_encoder(encoder, "decoder", device=CPU, precision="fp32")(FRAMES)
        spared = freeze_encoder(encoder, "decoder", device=CPU, precision="fp32", spare=True)(FRAMES)
    assert seen == [4, 4, 2, 1, 1, 1, 1]
    torch.testing.assert_close(spared, whole)
