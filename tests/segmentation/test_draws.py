import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pipeline.errors import InputError
from pipeline.runtime.artifacts import create_artifact, open_artifact
from pipeline.segmentation.draws import FILE, FinalDraws, load_final_draws


def slow_scores(embedding, prototypes, groups, k):
    """Per pixel and cluster the best of <e, mu> - |mu|^2 / 2 over the cluster's prototypes."""
    B, _, h, w = embedding.shape
    scores = np.full((B, k, h, w), -np.inf)
    for b, y, x in np.ndindex(B, h, w):
        for prototype, cluster in zip(prototypes, groups, strict=True):
            pairs = zip(embedding[b, :, y, x].tolist(), prototype.tolist(), strict=True)
            score = sum(e * m - m * m / 2 for e, m in pairs)
            scores[b, cluster, y, x] = max(scores[b, cluster, y, x], score)
    return scores


@pytest.fixture
def store(tmp_path):
    def write(tensors):
        with create_artifact(tmp_path / "segmenter") as out:
            out.notes["stage"] = "train"
            (out.path / "segmenter.json").write_text(json.dumps({}))
            if isinstance(tensors, bytes):
                (out.path / FILE).write_bytes(tensors)
            elif tensors:
                save_file(tensors, out.path / FILE)
        return open_artifact(tmp_path / "segmenter")

    return write


def test_scores_are_the_best_over_the_prototypes_of_a_cluster():
    torch.manual_seed(0)
    embedding = torch.nn.functional.normalize(torch.randn(2, 6, 3, 4), dim=1)
    prototypes = torch.randn(2, 7, 6) * 0.4
    groups = torch.tensor([[0, 1, 2, 0, 1, 2, 2], [2, 2, 2, 1, 1, 0, 0]])
    draws = FinalDraws(prototypes, groups, 3)
    assert draws.count == 2
    for draw in range(2):
        expected = slow_scores(embedding.numpy(), prototypes[draw].numpy(), groups[draw].tolist(), 3)
        np.testing.assert_allclose(draws.scores(embedding, draw).numpy(), expected, atol=1e-5)


def test_a_cluster_without_prototypes_never_wins_and_makes_no_nan():
    draws = FinalDraws(torch.zeros(1, 2, 4), torch.tensor([[0, 2]]), 3)
    scores = draws.scores(torch.ones(1, 4, 2, 2) / 2, 0)
    enlarged = torch.nn.functional.interpolate(scores, (8, 8), mode="bilinear", align_corners=False)
    assert enlarged.isfinite().all()
    assert (enlarged.argmax(1) != 1).all()


def test_what_was_stored_is_loaded(store):
    tensors = {"prototypes": torch.randn(3, 4, 5), "groups": torch.arange(4).repeat(3, 1)}
    draws = load_final_draws(store(tensors), 4)
    assert torch.equal(draws.prototypes, tensors["prototypes"])
    assert torch.equal(draws.groups, tensors["groups"])


def test_a_training_without_draws_has_none(store):
    assert load_final_draws(store(None), 4) is None


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (b"no tensors", r"not the final clusterings"),
        ({"prototypes": torch.zeros(1, 4, 5)}, r"not the final clusterings of a training \('groups'\)"),
        ({"prototypes": torch.zeros(1, 4, 5), "groups": torch.zeros(1, 3).long()}, r"do not fit each other"),
        (
            {"prototypes": torch.zeros(1, 4, 5), "groups": torch.tensor([[0, 1, 2, 9]])},
            r"clusters 0 to 9, but .* has 4",
        ),
    ],
)
def test_files_that_do_not_fit_are_refused(store, tensors, message):
    with pytest.raises(InputError, match=rf"final_draws\.safetensors: .*{message}"):
        load_final_draws(store(tensors), 4)
