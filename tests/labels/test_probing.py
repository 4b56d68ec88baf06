import torch

from pipeline.evaluation.truth import open_truth
from pipeline.labels.division import divide_labelled
from pipeline.labels.maps import freeze_body, load_body
from pipeline.labels.probing import run_probes
from pipeline.runtime.digests import file_digest
from tests.labels.conftest import PARAMS, Data

CPU = torch.device("cpu")


def probe(data: Data, encode, **changes) -> dict:
    params = PARAMS.probe.model_copy(update={"pixels": 600, "batch_size": 4, "precision": "fp32", **changes})
    truth = open_truth(data.table, data.truth_table("train", "val"), params.split, params.unknown_ids)
    division = divide_labelled(data.table, truth, params.seed)
    return run_probes(encode, division, table=data.table, params=params, workers=0, device=CPU)


def colours(frames: torch.Tensor) -> torch.Tensor:
    return frames.float()


def noise(frames: torch.Tensor) -> torch.Tensor:
    return torch.randn(len(frames), 4, 32, 32, generator=torch.Generator().manual_seed(int(frames.sum())))


def test_classes_that_the_map_shows_are_found(data):
    found = probe(data, lambda frames: torch.cat([colours(frames), 255 - colours(frames)], 1))
    assert found["probes"].keys() == {"linear", "knn"}
    for figures in found["probes"].values():
        assert figures["all"]["miou"] > 99
        assert set(figures["per_class"]) == {"dark", "bright"}
    assert (found["learnt_images"], found["scored_images"], found["split"]) == (6, 3, "val")
    assert found["learnt_pixels"] == 600


def test_classes_that_it_does_not_show_are_not(data):
    shown = probe(data, noise)["probes"]
    # the masks are about six to four: always the larger class scores 30 in mIoU
    assert all(figures["all"]["miou"] < 45 for figures in shown.values())


def test_the_same_seed_gives_the_same_figures_and_the_artefact_is_untouched(data, artifacts):
    segmenter = artifacts["segmenter"]
    before = {path.name: file_digest(path) for path in segmenter.path.iterdir()}

    def run(seed: int) -> dict:
        encode = freeze_body(load_body("segmenter", segmenter), device=CPU, precision="fp32")
        return probe(data, encode, seed=seed, pixels=40, kinds=["linear"])

    first = run(0)
    assert run(0) == first
    assert run(1)["probes"] != first["probes"]
    assert {path.name: file_digest(path) for path in segmenter.path.iterdir()} == before


def test_no_gradient_reaches_the_segmenter(data, artifacts):
    body = load_body("segmenter", artifacts["segmenter"])
    before = {key: value.clone() for key, value in body.state_dict().items()}
    encode = freeze_body(body, device=CPU, precision="fp32")
    seen = []

    def watch(frames: torch.Tensor) -> torch.Tensor:
        seen.append(encode(frames))
        return seen[-1]

    with torch.enable_grad():
        probe(data, watch, pixels=40)
    assert seen
    # a map without history can carry no gradient, whatever a probe does with it
    assert not any(map_.requires_grad or map_.grad_fn for map_ in seen)
    assert all(weight.grad is None for weight in body.parameters())
    assert all(torch.equal(value, before[key]) for key, value in body.state_dict().items())
