import pytest
import torch

from pipeline.data.views import normalise
from pipeline.pretext.simmim import SimMim, draw_masks, masked_error
from tests.pretext.conftest import assert_teaches_as, settings, sharpened, tiny_encoder, view_batch


@pytest.mark.parametrize(("ratio", "count"), [(0.6, 5), (0.01, 1), (0.99, 8)])
def test_every_image_has_the_same_number_of_masked_patches(ratio, count):
    numbers = torch.rand(4, 9, generator=torch.Generator().manual_seed(0))
    masked = draw_masks(numbers, ratio)
    assert masked.sum(1).tolist() == [count] * 4
    for row, mask in zip(numbers, masked, strict=True):
        assert row[mask].max() < row[~mask].min()


def test_only_masked_pixels_count():
    rng = torch.Generator().manual_seed(0)
    painted, images = torch.randn(2, 3, 4, 4, generator=rng), torch.randn(2, 3, 4, 4, generator=rng)
    masked = torch.rand(2, 1, 4, 4, generator=rng) < 0.4
    differences = [
        abs(float(painted[b, c, y, x] - images[b, c, y, x]))
        for b in range(2)
        for c in range(3)
        for y in range(4)
        for x in range(4)
        if masked[b, 0, y, x]
    ]
    assert masked_error(painted, images, masked).item() == pytest.approx(sum(differences) / len(differences), rel=1e-5)
    assert masked_error(painted, images, torch.zeros_like(masked)).item() == 0.0


def test_the_network_never_sees_masked_pixels():
    model = SimMim(tiny_encoder(), settings(method="simmim", channels=8, view_size=32)).eval()
    seen = []
    model.encoder.backbone.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    batch = view_batch(2)
    with torch.no_grad():
        model.mask_colour.copy_(torch.tensor([7.0, 8.0, 9.0]).view(3, 1, 1))
        model(batch)
    images = normalise(torch.cat(batch.plain))
    hidden = (seen[0] == model.mask_colour).all(1)
    assert hidden.view(4, 2, 16, 2, 16).float().mean((2, 4)).sum((1, 2)).tolist() == [2.0] * 4  # of four patches
    shown = ~hidden[:, None].expand_as(images)
    assert torch.equal(seen[0][shown], images[shown])


def test_the_loss_is_the_error_at_the_masked_pixels():
    params = settings(method="simmim", channels=8, view_size=64, masking={"patch": 16, "ratio": 0.25})
    model, batch = sharpened(SimMim(tiny_encoder(), params)), view_batch(2, side=64)
    errors = []
    for name, view in zip(("first", "second"), batch.plain, strict=True):
        for number, image in enumerate(normalise(view)):
            chances = batch.draw(f"mask of {name} view", 16)[number].tolist()
            corners = [divmod(patch, 4) for patch in sorted(range(16), key=chances.__getitem__)[:4]]
            hidden = torch.zeros(1, 64, 64, dtype=torch.bool)
            for y, x in corners:
                hidden[:, 16 * y : 16 * y + 16, 16 * x : 16 * x + 16] = True
            seen = torch.where(hidden, model.mask_colour, image)
            painted = model.paint(model.encoder(seen[None]))[0]  # (48, 16, 16): 4 x 4 pixels of 3 channels a cell
            for channel in range(3):
                for y, x in hidden[0].nonzero().tolist():
                    told = painted[16 * channel + 4 * (y % 4) + x % 4, y // 4, x // 4]
                    errors.append((told - image[channel, y, x]).abs())
    assert_teaches_as(model, model(batch)["loss"], torch.stack(errors).mean())
