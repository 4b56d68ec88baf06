from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pipeline.data.views import normalise
from pipeline.params import load_params
from pipeline.segmentation.draws import FinalDraws
from pipeline.segmentation.inference import SegmentedImage, Variants, segment_batches, segment_images
from pipeline.segmentation.mean_field import refine_scores
from pipeline.segmentation.model import build_segmenter

CPU = torch.device("cpu")
PARAMS = load_params(Path(__file__).parents[2] / "params.yaml")
CAE = PARAMS.train.cae.model_dump()
REFINE = PARAMS.evaluate.refine
IMAGES = torch.randint(0, 256, (4, 3, 32, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def segmenter():
    segmenter = build_segmenter({"backbone": "resnet18", "channels": 8}, 5, CAE, seed=1).eval()
    with torch.no_grad():
        pixels = segmenter.embed(normalise(IMAGES)).permute(0, 2, 3, 1).flatten(0, 2)
    segmenter.prototypes.copy_(0.9 * pixels[:: len(pixels) // 5][:5])
    return segmenter


def test_labels_are_the_best_of_the_enlarged_scores(segmenter):
    labels = segment_images(segmenter, IMAGES, device=CPU, precision="fp32")
    with torch.no_grad():
        pixels = segmenter.embed(normalise(IMAGES))
        distances = (pixels[:, None] - segmenter.prototypes[None, :, :, None, None]).square().sum(2)
    # |e - mu|^2 = 1 - 2 score, so bilinear scores are bilinear distances
    distances = F.interpolate(distances, (32, 64), mode="bilinear", align_corners=False)
    assert labels.dtype == np.int64
    assert labels.shape == (4, 32, 64)
    best = distances.min(1).values
    chosen = distances.gather(1, torch.from_numpy(labels)[:, None])[:, 0]
    assert (chosen - best).max() < 1e-5
    assert len(np.unique(labels)) > 2


def test_batches_come_out_image_by_image_whatever_their_size(segmenter):
    def run(batches: list[list[int]]) -> dict[int, np.ndarray]:
        stream = ((batch, IMAGES[batch]) for batch in batches)
        found = {}
        for index, image, labels, draws, variants in segment_batches(segmenter, stream, device=CPU, precision="fp32"):
            assert torch.equal(image, IMAGES[index])
            assert draws == []
            assert variants == {}
            found[index] = labels
        return found

    together, alone = run([[0, 1, 2, 3]]), run([[2], [3, 0], [1]])
    assert list(alone) == [2, 3, 0, 1]
    for index in range(4):
        assert (together[index] == alone[index]).mean() > 0.999


def test_evaluation_mode_is_switched_on(segmenter):
    segmenter.train()
    stream = iter([([0, 1], IMAGES[:2])])
    statistics = segmenter.encoder.backbone.stem[1].running_mean.clone()
    list(segment_batches(segmenter, stream, device=CPU, precision="fp32"))
    assert not segmenter.training
    assert torch.equal(segmenter.encoder.backbone.stem[1].running_mean, statistics)


def test_mixed_precision_labels_nearly_all_pixels_alike(segmenter):
    exact, rough = (segment_images(segmenter, IMAGES, device=CPU, precision=p) for p in ("fp32", "bf16"))
    assert (exact == rough).mean() > 0.95


def test_draws_label_the_images_asked_for_from_one_embedding(segmenter, monkeypatch):
    order = torch.tensor([3, 1, 4, 0, 2])
    prototypes = torch.stack([segmenter.prototypes, segmenter.prototypes[order]])
    draws = FinalDraws(prototypes, torch.arange(5).expand(2, 5), 5)
    embedded = []
    embed = segmenter.embed
    monkeypatch.setattr(segmenter, "embed", lambda images: embedded.append(len(images)) or embed(images))
    stream = iter([([7, 3], IMAGES[:2]), ([5, 4], IMAGES[2:])])
    found = list(segment_batches(segmenter, stream, device=CPU, precision="fp32", draws=draws, drawn={3, 5, 4}))
    assert embedded == [2, 2]
    assert [index for index, *_ in found] == [7, 3, 5, 4]
    assert found[0][3] == []
    for _, _, labels, (same, renamed), _ in found[1:]:
        assert (same == labels).all()
        assert (order.numpy()[renamed] == labels).all()


def test_images_asked_for_are_refined_from_their_enlarged_scores(segmenter):
    params = REFINE.model_copy(update={"iterations": 2})
    stream = iter([([7, 3], IMAGES[:2]), ([5], IMAGES[2:3])])
    variants = Variants(params, False, {3, 5})
    found = list(segment_batches(segmenter, stream, device=CPU, precision="fp32", variants=variants))
    assert found[0].variants == {}
    with torch.no_grad():
        scores = F.interpolate(segmenter(normalise(IMAGES)), (32, 64), mode="bilinear", align_corners=False)
    for row, each in ((1, found[1]), (2, found[2])):
        expected = refine_scores(scores[row], IMAGES[row], params).argmax(0).numpy()
        assert each.variants.keys() == {"refined"}
        assert (each.variants["refined"] == expected).mean() > 0.999
        assert (each.variants["refined"] != each.labels).any()
    unrefined = segment_batches(segmenter, iter([([7, 3], IMAGES[:2])]), device=CPU, precision="fp32")
    assert all((one.labels == other.labels).all() for one, other in zip(found, unrefined, strict=False))


def average_slowly(segmenter, image: torch.Tensor) -> np.ndarray:
    """Each pixel's cluster by the mean of its scores in the image and in its mirror image, pixel by pixel."""
    both = []
    for shown in (image.numpy(), image.numpy()[:, :, ::-1].copy()):
        with torch.no_grad():
            scores = segmenter(normalise(torch.from_numpy(shown)[None]))
        both.append(F.interpolate(scores, shown.shape[1:], mode="bilinear", align_corners=False)[0].numpy())
    h, w = image.shape[1:]
    labels = np.empty((h, w), np.int64)
    for y in range(h):
        for x in range(w):
            labels[y, x] = np.argmax(both[0][:, y, x] + both[1][:, y, w - 1 - x])
    return labels


def test_scores_are_averaged_over_the_images_asked_for_and_their_mirror_images(segmenter):
    stream = iter([([7, 3, 6], IMAGES[:3]), ([5], IMAGES[3:])])
    variants = Variants(REFINE, True, {3, 6, 5})
    found = list(segment_batches(segmenter, stream, device=CPU, precision="fp32", variants=variants))
    assert found[0].variants == {}
    for image, each in zip(IMAGES[1:], found[1:], strict=True):
        assert each.variants.keys() == {"flip_averaged"}
        averaged = each.variants["flip_averaged"]
        assert averaged.dtype == np.int64
        assert (averaged == average_slowly(segmenter, image)).mean() > 0.999
        assert (averaged != each.labels).any()
    plain = segment_batches(segmenter, iter([([7, 3, 6], IMAGES[:3])]), device=CPU, precision="fp32")
    assert all((one.labels == other.labels).all() for one, other in zip(found, plain, strict=False))


def test_a_mirrored_image_has_the_mirrored_average(segmenter):
    images = torch.stack([IMAGES[0], IMAGES[0].flip(-1)])
    variants = Variants(REFINE.model_copy(update={"iterations": 1}), True, {0, 1})
    stream = iter([([0, 1], images)])
    found = list(segment_batches(segmenter, stream, device=CPU, precision="fp32", variants=variants))
    first, second = (each.variants["flip_averaged"] for each in found)
    assert (first == second[:, ::-1]).mean() > 0.999
    assert found[0].variants.keys() == {"refined", "flip_averaged"}


def test_batches_that_are_too_large_for_the_device_come_in_halves(segmenter, monkeypatch):
    embed, seen = segmenter.embed, []

    def refuse(images: torch.Tensor) -> torch.Tensor:
        seen.append(len(images))
        if len(images) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return embed(images)

    def run(spare: bool) -> list[SegmentedImage]:
        stream = iter([([3, 2, 1, 0], IMAGES[[3, 2, 1, 0]])])
        return list(segment_batches(segmenter, stream, device=CPU, precision="fp32", spare=spare))

    whole = run(spare=False)
    monkeypatch.setattr(segmenter, "embed", refuse)
    with pytest.raises(torch.OutOfMemoryError):
        run(spare=False)
    seen.clear()
    halves = run(spare=True)
    assert seen == [4, 2, 2]
    for one, other in zip(halves, whole, strict=True):
        assert one.number == other.number
        assert torch.equal(one.image, other.image)
        assert (one.labels == other.labels).mean() > 0.999
