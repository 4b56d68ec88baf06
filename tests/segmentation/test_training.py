import math

import numpy as np
import pytest
import torch

from pipeline.backbones.encoder import build_encoder
from pipeline.clustering.pyramid import PseudoLabels
from pipeline.data.views import normalise
from pipeline.errors import InputError, TrainingError
from pipeline.runtime.interrupts import Interrupted
from pipeline.segmentation.trainee import SegmenterTrainee
from pipeline.segmentation.training import gather_pyramid
from pipeline.training.checkpoints import Checkpoints


@pytest.fixture(scope="module")
def whole(tmp_path_factory, train):
    return train(tmp_path_factory.mktemp("whole"))


def test_the_result_has_prototypes_and_curves(whole):
    segmenter, curves = whole.segmenter, whole.curves
    assert not segmenter.training
    assert segmenter.prototypes.shape == (4, 8)
    assert segmenter.prototypes.norm(dim=1).min() > 0
    assert segmenter.prototypes.norm(dim=1).max() <= 1 + 1e-5
    assert not torch.equal(
        segmenter.encoder.decoder.laterals[0].weight, build_encoder("resnet18", 8, 0).decoder.laterals[0].weight
    )
    expected = {"loss", "pixel_loss", "pgg_loss", "pgg_top1_level_1", "pgg_top1_level_2", "effective_rank", "gamma"}
    expected |= {"clusters_used", "largest_share", "entropy"}
    assert set(curves.rows[0]) == expected
    assert set(curves.rows[1]) == expected | {"nmi"}
    assert all(math.isfinite(value) for row in curves.rows for value in row.values())


def test_the_final_prototypes_are_means_of_pixels_in_evaluation_mode(whole, images):
    statistics = whole.statistics
    assert statistics["pixels_fitted"] == 240
    assert sum(statistics["sizes"]) == 240
    assert len(statistics["restart_inertia"]) == 2
    assert statistics["inertia"] == min(statistics["restart_inertia"])
    with torch.no_grad():
        pixels = whole.segmenter.embed(normalise(images)).permute(0, 2, 3, 1).flatten(0, 2)
    nearest = torch.cdist(pixels, whole.segmenter.prototypes).min(1).values.square()
    assert nearest.mean().item() == pytest.approx(statistics["inertia"] / 240, rel=0.25)


# batches of 3 of 6 images: the pass that fits the prototypes loads 2, the probe 2, and the epoch trains on 2
@pytest.mark.parametrize("stop_at", [5, 6, 11])
def test_stopped_and_resumed_is_the_same_bit_for_bit(tmp_path, train, whole, stop_at):
    with pytest.raises(Interrupted):
        train(tmp_path, stop_at)
    state = Checkpoints(tmp_path).load()
    assert (state["epoch"], state["step"]) == {5: (0, 1), 6: (0, 2), 11: (1, 1)}[stop_at]
    torch.manual_seed(stop_at)  # the global generator must not matter
    resumed = train(tmp_path)
    pairs = zip(resumed.segmenter.state_dict().values(), whole.segmenter.state_dict().values(), strict=True)
    assert all(torch.equal(one, two) for one, two in pairs)
    assert resumed.curves.rows == whole.curves.rows
    assert resumed.statistics == whole.statistics


def test_variants_of_the_context_resume_bit_for_bit_and_keep_their_frozen_start(tmp_path, train):
    cae = {"appearance": "backbone", "neighbourhood": "nonlocal", "top": 3}
    cae |= {"stop_gradient": False, "fixed_temperature": False}
    whole = train(tmp_path / "whole", cae=cae).segmenter.state_dict()
    with pytest.raises(Interrupted):
        train(tmp_path / "stopped", 6, cae=cae)
    resumed = train(tmp_path / "stopped", cae=cae).segmenter.state_dict()
    assert all(torch.equal(one, two) for one, two in zip(resumed.values(), whole.values(), strict=True))
    for key, value in build_encoder("resnet18", 8, 0).state_dict().items():
        assert torch.equal(whole[f"appearance.encoder.{key}"], value)
    assert whole["embedding.log_temperature"] != pytest.approx(math.log(0.1), abs=1e-6)


def test_collapsed_clusters_end_the_training_with_advice(tmp_path, train, monkeypatch):
    start = SegmenterTrainee.begin_epoch

    def collapse(self, epoch):
        start(self, epoch)
        self.prototypes.centroids[:] = self.prototypes.centroids[:, :1].clone()

    monkeypatch.setattr(SegmenterTrainee, "begin_epoch", collapse)
    with pytest.raises(TrainingError, match=r"collapsed, clusters_used 1 of 4 is below train\.min_used 0\.3"):
        train(tmp_path, min_used=0.3)


def test_neither_guidance_nor_context_is_needed(tmp_path, train):
    plain = train(tmp_path, epochs=1, pgg={"weight": 0.0}, cae={"enabled": False})
    assert "pgg_loss" not in plain.curves.rows[0]
    assert "gamma" not in plain.curves.rows[0]
    assert "embedding.gamma" not in plain.segmenter.state_dict()
    assert plain.segmenter.architecture["cae"]["enabled"] is False


def test_without_epochs_the_features_themselves_are_clustered(tmp_path, train):
    plain = train(tmp_path, epochs=0, pgg={"weight": 0.0}, cae={"enabled": False})
    assert plain.curves.rows == []
    start = build_encoder("resnet18", 8, 0).state_dict()
    assert all(torch.equal(value, start[key]) for key, value in plain.segmenter.encoder.state_dict().items())
    assert sum(plain.statistics["sizes"]) == 240
    assert plain.segmenter.prototypes.norm(dim=1).min() > 0


def test_mixed_precision_trains_as_well(tmp_path, train):
    rough = train(tmp_path, epochs=1, precision="bf16")
    assert math.isfinite(rough.curves.rows[0]["loss"])
    assert all(value.dtype != torch.bfloat16 for value in rough.segmenter.state_dict().values())


def pseudo(level: int, ids: str, seed: int = 0) -> PseudoLabels:
    rng = np.random.default_rng(seed)
    labels = {i: rng.integers(0, 3, (level, level)).astype(np.int32) for i in ids}
    return PseudoLabels(level, 3, labels, {i: rng.random((level, level)).astype(np.float32) for i in ids})


def test_pseudo_labels_are_lined_up_with_the_images():
    level = pseudo(2, "abcd")
    level.labels["c"][0, 1] = -1
    level.margins["c"][0, 1] = 0.0
    (gathered,) = gather_pyramid({2: level}, ["c", "a"], 0.25)
    assert (gathered.cells, gathered.k) == (2, 3)
    assert gathered.labels.dtype == torch.int64
    np.testing.assert_array_equal(gathered.labels[0], level.labels["c"].ravel())
    np.testing.assert_array_equal(gathered.margins[1], level.margins["a"].ravel())
    counted = gathered.margins[gathered.labels >= 0].numpy()
    assert gathered.min_margin == pytest.approx(np.quantile(counted, 0.25))


def test_every_level_is_gathered_and_none_is_fine():
    levels = gather_pyramid({1: pseudo(1, "ab"), 4: pseudo(4, "ab")}, ["a", "b"], 0.0)
    assert [level.labels.shape for level in levels] == [(2, 1), (2, 16)]
    assert levels[0].min_margin == float("-inf")
    assert gather_pyramid({}, ["a"], 0.2) == []


def test_an_image_without_pseudo_labels_is_named():
    with pytest.raises(InputError, match=r"z: no pseudo labels at level 2 \(1 images\); run `dvc repro cluster`"):
        gather_pyramid({2: pseudo(2, "ab")}, ["a", "z"], 0.2)


@pytest.mark.parametrize("at", [1, 4])
def test_with_too_little_memory_the_result_is_the_same_if_it_may_be_spared(tmp_path, monkeypatch, train, at):
    changes = {"pgg": {"recluster_every": 1}}  # labels that were made anew are forgotten as well
    whole = train(tmp_path / "whole", **changes)
    losses, calls = SegmenterTrainee.losses, []

    def exhaust(self, *arguments):
        found = losses(self, *arguments)
        calls.append("forward" in vars(self.segmenter.embedding))
        if len(calls) == at:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return found

    monkeypatch.setattr(SegmenterTrainee, "losses", exhaust)
    spared = train(tmp_path / "spared", spare=True, **changes)
    assert calls == [False] * at + [True] * (len(calls) - at)
    pairs = zip(spared.segmenter.state_dict().values(), whole.segmenter.state_dict().values(), strict=True)
    assert all(torch.equal(one, two) for one, two in pairs)
    assert spared.curves.rows == whole.curves.rows
    assert spared.statistics == whole.statistics
