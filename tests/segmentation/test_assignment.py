import torch

from pipeline.params import AssignmentParams
from pipeline.segmentation.assignment import choose_labels


def settings(method: str) -> AssignmentParams:
    return AssignmentParams(method=method, epsilon=0.05, iterations=3, teacher_momentum=0.0)


def random_scores(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) / 4


def test_every_cluster_gets_an_even_share():
    scores = random_scores(2, 4, 16, 16)
    scores[:, 0] += 3.0  # nearest to nearly all pixels
    nearest = choose_labels(scores, settings("nearest"))
    balanced = choose_labels(scores, settings("balanced"))
    assert balanced.dtype == torch.int64
    assert balanced.shape == nearest.shape == (2, 16, 16)
    assert (nearest == 0).float().mean() > 0.95
    shares = torch.bincount(balanced.flatten(), minlength=4) / balanced.numel()
    assert (shares - 0.25).abs().max() < 0.1


def test_balanced_labels_keep_what_is_clear():
    labels = torch.arange(64).reshape(1, 8, 8) % 4
    scores = torch.nn.functional.one_hot(labels, 4).permute(0, 3, 1, 2).float()
    assert torch.equal(choose_labels(scores, settings("balanced")), labels)
