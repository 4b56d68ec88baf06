from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from pipeline.backbones.encoder import build_encoder
from pipeline.errors import InputError
from pipeline.params import load_params
from pipeline.runtime.artifacts import create_artifact, open_artifact
from pipeline.segmentation.cae import ContextAwareEmbedding
from pipeline.segmentation.cae.appearance import colour_map
from pipeline.segmentation.losses import prototype_logits
from pipeline.segmentation.model import PyramidHead, UnitNorm, build_segmenter, load_segmenter, save_segmenter

PARAMS = load_params(Path(__file__).parents[2] / "params.yaml").train
ENCODER = {"backbone": "resnet18", "channels": 8}


def cae(**changes) -> dict:
    return PARAMS.cae.model_copy(update=changes).model_dump()


@pytest.fixture(scope="module")
def segmenter():
    segmenter = build_segmenter(ENCODER, 5, cae(), seed=1).eval()
    segmenter.prototypes.copy_(torch.randn(5, 8, generator=torch.Generator().manual_seed(0)))
    return segmenter


def test_scores_compare_unit_embeddings_with_the_prototypes(segmenter):
    images = torch.rand(2, 3, 32, 64)
    with torch.no_grad():
        embedding = segmenter.embed(images)
        scores = segmenter(images)
    assert embedding.shape == (2, 8, 8, 16)
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(2, 8, 16))
    torch.testing.assert_close(scores, prototype_logits(embedding, segmenter.prototypes))


def test_the_context_can_be_switched_off():
    plain = build_segmenter(ENCODER, 5, cae(enabled=False), seed=1)
    assert isinstance(plain.embedding, UnitNorm)
    assert not list(plain.embedding.parameters())
    features = torch.rand(1, 8, 4, 4).bfloat16()
    assert plain.embedding(features).dtype == torch.float32
    torch.testing.assert_close(plain.embedding(features), F.normalize(features.float(), dim=1))
    assert isinstance(build_segmenter(ENCODER, 5, cae(), seed=1).embedding, ContextAwareEmbedding)


def test_a_segmenter_starts_from_the_encoder_that_it_is_given():
    start = build_encoder("resnet18", 8, seed=9)
    segmenter = build_segmenter(start.architecture, 5, cae(gamma=0.25), start=start, seed=1)
    assert segmenter.encoder is start
    assert segmenter.embedding.gamma.item() == 0.25
    assert not segmenter.prototypes.any()
    other = build_segmenter(start.architecture, 5, cae(gamma=0.25), seed=1)
    assert torch.equal(other.embedding.transform.weight, segmenter.embedding.transform.weight)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"enabled": False},
        {"enabled": False, "appearance": "backbone"},
        {"appearance": "rgb"},
        {"appearance": "backbone"},
        {"appearance": "features_rgb", "neighbourhood": "nonlocal"},
        {"scales": [1, 2], "exclude_self": False, "stop_gradient": False},
        {"mix": "fixed", "gamma": 0.25, "fixed_temperature": False},
    ],
    ids=str,
)
def test_what_is_saved_is_loaded_bit_for_bit(tmp_path, changes):
    start = build_encoder("resnet18", 8, seed=9)
    segmenter = build_segmenter(ENCODER, 5, cae(**changes), start=start, seed=1)
    images = torch.rand(2, 3, 32, 32)
    segmenter.train()
    segmenter.prototypes.copy_(segmenter.embed(images).detach()[0, :, :5, 0].T)
    with torch.no_grad():
        for parameter in segmenter.parameters():
            # as training would; what is frozen stays
            parameter.mul_(1.1 if parameter.requires_grad else 1.0)
    with create_artifact(tmp_path / "out") as writer:
        save_segmenter(segmenter, writer.path, {"final_clustering": {"inertia": 1.5}})
    artifact = open_artifact(tmp_path / "out")
    loaded = load_segmenter(artifact)
    assert not loaded.training
    pairs = zip(loaded.state_dict().items(), segmenter.state_dict().items(), strict=True)
    assert all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)
    with torch.no_grad():
        assert torch.equal(loaded(images), segmenter.eval()(images))
    sidecar = artifact.json("segmenter.json")
    assert sidecar["labels_used"] is False
    assert sidecar["final_clustering"] == {"inertia": 1.5}
    assert sidecar["architecture"] == {"encoder": ENCODER, "k": 5, "cae": cae(**changes), "fine_clusters": 0}


@pytest.mark.parametrize("source", ["rgb", "backbone", "features_rgb"])
def test_the_appearance_reaches_the_embedding(source):
    start = build_encoder("resnet18", 8, seed=9)
    segmenter = build_segmenter(ENCODER, 5, cae(appearance=source), start=start, seed=1).eval()
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        start = build_encoder("resnet18", 8, seed=9).eval()
        for parameter in segmenter.encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        features = segmenter.encoder(images)
        colours = colour_map(images, (8, 8))
        maps = {"rgb": (colours,), "backbone": (start(images),), "features_rgb": (features, colours)}[source]
        found = segmenter.embed(images)
        torch.testing.assert_close(found, segmenter.embedding(features, maps))
        assert not torch.allclose(found, segmenter.embedding(features), atol=1e-4)
    # the frozen copy is no part of what is trained
    assert all(parameter.requires_grad for parameter in segmenter.embedding.parameters())


def test_nothing_is_kept_for_the_appearance_of_the_features():
    segmenter = build_segmenter(ENCODER, 5, cae(), seed=1)
    assert segmenter.appearance is None
    assert not [key for key in segmenter.state_dict() if key.startswith("appearance")]


def test_merged_clusters_are_saved_and_score_as_their_best_fine_prototype(tmp_path):
    segmenter = build_segmenter(ENCODER, 3, cae(enabled=False), fine_clusters=7, seed=1).eval()
    segmenter.prototypes.copy_(torch.randn(7, 8, generator=torch.Generator().manual_seed(0)) / 3)
    segmenter.groups.copy_(torch.tensor([0, 2, 1, 1, 0, 2, 2]))
    with create_artifact(tmp_path / "out") as writer:
        save_segmenter(segmenter, writer.path, {})
    loaded = load_segmenter(open_artifact(tmp_path / "out"))
    images = torch.rand(1, 3, 32, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        scores, embedding = loaded(images), loaded.embed(images)
    assert scores.shape == (1, 3, 8, 16)
    distances = (embedding[:, None] - segmenter.prototypes[None, :, :, None, None]).square().sum(2)
    assert torch.equal(scores.argmax(1), segmenter.groups[distances.argmin(1)])


def test_damaged_weights_are_named(segmenter, tmp_path):
    with create_artifact(tmp_path / "out") as writer:
        save_segmenter(segmenter, writer.path, {})
    path = tmp_path / "out" / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"weights\.safetensors: differs from its digest"):
        load_segmenter(open_artifact(tmp_path / "out"))


def test_the_cosine_head_sees_directions_only():
    head = PyramidHead(4, 3, PARAMS.pgg.model_copy(update={"head": "cosine", "temperature": 0.2}))
    cells = torch.randn(5, 4)
    expected = F.cosine_similarity(cells[:, None], head.last.weight[None], dim=2) / 0.2
    torch.testing.assert_close(head(cells), expected)
    torch.testing.assert_close(head(7 * cells), expected)
    assert head.last.bias is None


def test_the_mlp_head_has_one_hidden_layer():
    head = PyramidHead(4, 3, PARAMS.pgg.model_copy(update={"head": "mlp"}))
    cells = torch.randn(5, 4)
    hidden = head.hidden[0](cells).clamp(min=0)
    torch.testing.assert_close(head(cells), hidden @ head.last.weight.T + head.last.bias)
