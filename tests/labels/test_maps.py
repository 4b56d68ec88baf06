import pytest
import torch

from pipeline.labels.maps import build_body, freeze_body, load_body, map_channels
from pipeline.runtime.digests import file_digest

CPU = torch.device("cpu")
FRAMES = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("source", ["backbone", "segmenter"])
def test_no_gradient_reaches_the_network(artifacts, source):
    before = {path.name: file_digest(path) for path in artifacts[source].path.iterdir()}
    body = load_body(source, artifacts[source])
    weights = {key: value.clone() for key, value in body.state_dict().items()}
    map_ = freeze_body(body, device=CPU, precision="fp32")(FRAMES)
    assert map_.shape == (2, map_channels(source, artifacts[source]), 8, 8)
    assert not map_.requires_grad
    head = torch.nn.Conv2d(8, 2, 1)
    optimizer = torch.optim.SGD([*head.parameters(), *body.parameters()], lr=10.0, momentum=0.9)
    head(map_).square().mean().backward()
    optimizer.step()
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in body.parameters())
    # batch-norm statistics are among them
    assert all(torch.equal(value, weights[key]) for key, value in body.state_dict().items())
    assert {path.name: file_digest(path) for path in artifacts[source].path.iterdir()} == before


@pytest.mark.parametrize("source", ["backbone", "segmenter"])
def test_random_weights_fill_the_same_network(artifacts, source):
    loaded = load_body(source, artifacts[source]).state_dict()
    drawn, again, other = (build_body(source, artifacts[source], seed).state_dict() for seed in (5, 5, 6))
    assert {key: value.shape for key, value in drawn.items()} == {key: value.shape for key, value in loaded.items()}
    name = next(key for key in drawn if key.endswith("weight"))
    assert torch.equal(drawn[name], again[name])
    assert not torch.equal(drawn[name], other[name])
    assert not torch.equal(drawn[name], loaded[name])
