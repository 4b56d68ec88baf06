import numpy as np
import pytest
import torch

from pipeline.data.views import normalise
from pipeline.pretext.mae import Mae, cut_patches, patch_error, sine_positions
from tests.pretext.conftest import assert_teaches_as, settings, sharpened, tiny_encoder, tiny_vit_encoder, view_batch

PARAMS = settings(method="mae", backbone="vit_small_patch16", channels=8, masking={"ratio": 0.5})


def test_only_masked_patches_count_and_each_is_normalised():
    rng = torch.Generator().manual_seed(0)
    painted, pixels = torch.randn(2, 4, 12, generator=rng), 3 + torch.rand(2, 4, 12, generator=rng)
    masked = torch.tensor([[True, False, True, False], [False, False, True, True]])
    errors = []
    for b, n in masked.nonzero().tolist():
        truth = pixels[b, n].double().numpy()
        truth = (truth - truth.mean()) / np.sqrt(truth.var(ddof=1) + 1e-6)
        errors.append(np.mean((painted[b, n].double().numpy() - truth) ** 2))
    assert patch_error(painted, pixels, masked).item() == pytest.approx(np.mean(errors), rel=1e-5)


def test_patches_stand_row_by_row():
    images = torch.arange(2 * 3 * 4 * 4.0).view(2, 3, 4, 4)
    patches = cut_patches(images, 2)
    assert patches.shape == (2, 4, 12)
    assert torch.equal(patches[1, 1], images[1, :, :2, 2:].flatten())
    assert torch.equal(patches[1, 2], images[1, :, 2:, :2].flatten())


def test_positions_tell_rows_and_columns_apart():
    grid = sine_positions(3, 8)[0].view(3, 3, 8)
    assert torch.equal(grid[1, 0, :4], grid[1, 2, :4])  # the row
    assert torch.equal(grid[0, 1, 4:], grid[2, 1, 4:])  # the column
    assert len(torch.unique(grid.flatten(0, 1), dim=0)) == 9


def test_the_backbone_never_sees_masked_patches():
    model = Mae(tiny_vit_encoder(), PARAMS).eval()
    batch = view_batch(2)
    caught = []
    model.encoder.backbone.stages[0].register_forward_pre_hook(lambda _, given: caught.append(given[0]))
    with torch.no_grad():
        model(batch)
        tokens = model.encoder.backbone.stem(normalise(torch.cat(batch.plain)))
    seen = caught[-1]  # after the two whole views
    assert seen.shape == (4, 1 + 2, 16)  # the class token and half of four patches
    for image in range(4):
        for token in seen[image]:
            assert (token == tokens[image]).all(1).any()


def test_a_backbone_that_cannot_drop_patches_is_refused():
    with pytest.raises(TypeError, match="resnet18: MAE takes vision transformers only"):
        Mae(tiny_encoder(), settings(channels=8))


@pytest.mark.parametrize(("ratio", "count"), [(0.75, 12), (0.25, 4)])
def test_masked_patches_are_painted_from_the_shown_ones_and_their_places(ratio, count):
    params = settings(method="mae", backbone="vit_small_patch16", channels=8, masking={"ratio": ratio})
    model, batch = sharpened(Mae(tiny_vit_encoder(), params)), view_batch(2, side=64)
    with torch.no_grad():
        model.mask_token.normal_(generator=torch.Generator().manual_seed(0))
    body, positions, errors = model.encoder.backbone, sine_positions(4, 128)[0], []
    for name, view in zip(("first", "second"), batch.plain, strict=True):
        for number, image in enumerate(normalise(view)):
            chances = batch.draw(f"mask of {name} view", 16)[number].tolist()
            masked = sorted(range(16), key=chances.__getitem__)[:count]
            tokens = body.stem(image[None])[0]  # the class token, then 16 patches
            shown = [patch for patch in range(16) if patch not in masked]
            seen = model.enter(body.encode(torch.stack([tokens[0], *(tokens[1 + patch] for patch in shown)])[None])[0])
            whole = [seen[0]]
            for patch in range(16):
                whole.append(model.mask_token[0, 0] if patch in masked else seen[1 + shown.index(patch)])
                whole[-1] = whole[-1] + positions[patch]
            painted = model.paint(model.blocks(torch.stack(whole)[None])[0])
            for patch in masked:
                y, x = 16 * (patch // 4), 16 * (patch % 4)
                truth = image[:, y : y + 16, x : x + 16].flatten()
                truth = (truth - truth.mean()) / torch.sqrt(truth.var() + 1e-6)
                errors.append((painted[1 + patch] - truth).square().mean())
    assert len(errors) == 4 * count
    assert_teaches_as(model, model(batch)["method_loss"], torch.stack(errors).mean())
