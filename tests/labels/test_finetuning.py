import functools

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.data.loading import FrameDataset
from pipeline.errors import InputError, TrainingError
from pipeline.evaluation.truth import open_truth
from pipeline.labels.finetuning import augment, draw_batch, finetune
from pipeline.labels.labelled import LabelledFrames
from pipeline.labels.maps import load_body
from pipeline.labels.network import LabelledNet
from tests.labels.conftest import PARAMS, Data

CPU = torch.device("cpu")


def make_params(**changes):
    small = {"head_steps": 2, "steps": 2, "batch_size": 2, "precision": "fp32"}
    return PARAMS.finetune.model_copy(update={**small, **changes})


@pytest.fixture(scope="module")
def train(artifacts, tmp_path_factory):
    """Trains one network; the same arguments train it once for all tests unless `again` says otherwise."""
    data = Data(tmp_path_factory.mktemp("data"), ["train"] * 6 + ["val"] * 3)
    truth = open_truth(data.table, data.truth_table("train", "val"), "auto", "error")
    labelled = LabelledFrames(FrameDataset(data.table.select("train"), data.table, 10**6), truth)

    @functools.cache
    def run(source="segmenter", seed=0, chosen=(0, 3), again=0, **changes) -> tuple[dict, dict]:
        net = LabelledNet(load_body(source, artifacts[source]), 8, 2, seed)
        before = {key: value.clone() for key, value in net.state_dict().items()}
        finetune(
            net,
            labelled,
            chosen,
            make_params(**changes),
            learning_rate=1e-3,
            ignore_index=255,
            seed=seed,
            device=CPU,
            check_stop=lambda: None,
        )
        return before, net.state_dict()

    return run


def changed(before: dict, after: dict) -> set[str]:
    return {key for key in before if not torch.equal(before[key], after[key])}


def test_the_head_comes_first_and_the_whole_after_it(train):
    assert {key.split(".")[0] for key in changed(*train(steps=0))} == {"head"}
    whole = changed(*train(head_steps=0, steps=1))
    assert {key.split(".")[0] for key in whole} == {"head", "body"}
    # the frozen copy that tells which neighbours are alike stays what it was
    assert not [key for key in whole if ".appearance." in key]
    assert changed(*train("backbone", head_steps=0, steps=1))


def test_the_seed_decides_everything(train):
    short = {"head_steps": 0, "steps": 1}
    first = train("backbone", **short)[1]
    assert not changed(first, train("backbone", again=1, **short)[1])
    assert changed(first, train("backbone", seed=1, **short)[1])
    assert changed(first, train("backbone", chosen=(1, 2), **short)[1])


def test_a_loss_that_is_no_number_stops_with_what_to_change(train):
    with pytest.raises(TrainingError, match=r"on 2 images: the loss is no finite number .* finetune\.learning_rate"):
        train(head_learning_rate=1e30, head_steps=20)


def test_mask_and_image_are_mirrored_together():
    random = np.random.default_rng(0)
    masks = torch.from_numpy(random.integers(0, 2, (16, 4, 6)))
    images = (255 * masks[:, None].expand(-1, 3, -1, -1)).to(torch.uint8)
    params = make_params(jitter=0.0, hue=0.0)
    seen, mirrored = augment(images, masks, params, seed=0, step=1)
    torch.testing.assert_close(seen, mirrored[:, None].expand_as(seen).float())
    flips = [torch.equal(new, old.flip(1)) for new, old in zip(mirrored, masks, strict=True)]
    kept = [torch.equal(new, old) for new, old in zip(mirrored, masks, strict=True)]
    assert all(a != b for a, b in zip(flips, kept, strict=True))
    assert 0 < sum(flips) < 16
    assert torch.equal(augment(images, masks, params.model_copy(update={"flip": False}), 0, 1)[1], masks)


def test_colours_change_but_never_to_gray_or_blur():
    images = torch.zeros(64, 3, 8, 8, dtype=torch.uint8)
    images[:, 0, :, 4:] = 200
    params = make_params(flip=False, jitter=0.2, hue=0.0)
    seen, _ = augment(images, torch.zeros(64, 8, 8, dtype=torch.int64), params, seed=0, step=0)
    assert len({round(float(image[0, 0, 7]), 4) for image in seen}) > 10
    assert (seen[:, 0, :, 7] > seen[:, 1, :, 7] + 0.1).all()  # red stays red
    assert torch.equal(seen[:, :, :, 4], seen[:, :, :, 7])  # and its edge sharp


def test_a_batch_has_one_shape_and_comes_from_the_chosen():
    sizes = [(32, 32), (32, 64), (32, 32), (32, 64), (32, 32)]
    drawn = [draw_batch(sizes, [0, 1, 2], 3, np.random.default_rng(seed)) for seed in range(200)]
    assert {index for batch in drawn for index in batch} == {0, 1, 2}
    assert all(len({sizes[index] for index in batch}) == 1 for batch in drawn)
    assert sum(batch[0] == 1 for batch in drawn) == pytest.approx(200 / 3, abs=30)
    assert draw_batch(sizes, [4], 2, np.random.default_rng(0)) == [4, 4]


def test_images_without_any_labelled_pixel_are_refused(tmp_path, artifacts):
    data = Data(tmp_path, ["train"] * 2)
    Image.fromarray(np.full((32, 32), 255, np.uint8)).save(tmp_path / "0-mask.png")
    truth = open_truth(data.table, data.truth_table("train"), "auto", "error")
    labelled = LabelledFrames(FrameDataset(data.table.select("train"), data.table, 10**6), truth)
    net = LabelledNet(load_body("backbone", artifacts["backbone"]), 8, 2, 0)
    with pytest.raises(InputError, match="every pixel of the 1 masks to learn from has the ignored id 255"):
        finetune(
            net,
            labelled,
            [0],
            make_params(),
            learning_rate=1e-3,
            ignore_index=255,
            seed=0,
            device=CPU,
            check_stop=lambda: None,
        )
    assert labelled.has_labels([0, 1], 255)
