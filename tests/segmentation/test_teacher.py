import pytest
import torch

from pipeline.runtime.interrupts import Interrupted
from pipeline.segmentation.teacher import Teacher

BATCH = [0, 1, 2]


def weights(network):
    return [weight.detach().clone() for weight in network.parameters()]


def test_the_teacher_is_a_moving_average_of_every_step(trainee, images):
    toy = trainee(assignment={"teacher_momentum": 0.9})
    toy.begin_epoch(0)
    expected = weights(toy.segmenter)
    for _ in range(3):
        toy.optimizer.zero_grad()
        toy.losses(0, BATCH, images[BATCH])["loss"].backward()
        toy.optimizer.step()
        expected = [0.9 * old + 0.1 * new for old, new in zip(expected, weights(toy.segmenter), strict=True)]
    for found, average, student in zip(weights(toy.result), expected, weights(toy.segmenter), strict=True):
        torch.testing.assert_close(found, average, atol=1e-6, rtol=1e-5)
        assert not torch.equal(found, student)


def test_the_teacher_gets_no_gradient(trainee, images):
    toy = trainee(assignment={"teacher_momentum": 0.9})
    toy.begin_epoch(0)
    toy.losses(0, BATCH, images[BATCH])["loss"].backward()
    assert all(weight.grad is None for weight in toy.result.parameters())
    held = {id(weight) for group in toy.optimizer.param_groups for weight in group["params"]}
    assert not held & {id(weight) for weight in toy.result.parameters()}


def test_without_momentum_the_teacher_is_the_student(trainee):
    student = trainee().segmenter
    teacher = Teacher(student, 0.0)
    with torch.no_grad():
        student.embedding.gamma.fill_(0.125)
    teacher.follow()
    assert teacher.segmenter.embedding.gamma.item() == 0.125


def test_the_teacher_clusters_and_assigns(trainee, images):
    toy = trainee(assignment={"teacher_momentum": 0.5})
    toy.begin_epoch(0)
    before = toy.prototypes.centroids.clone()
    with torch.no_grad():
        for weight in toy.segmenter.parameters():
            weight.normal_(generator=torch.Generator().manual_seed(0))  # the student alone is changed
    toy.begin_epoch(0)
    assert torch.equal(toy.prototypes.centroids, before)
    counted = []
    for seed in (0, 1):
        toy.monitors.histogram.zero_()
        with torch.no_grad():
            for weight in toy.segmenter.parameters():
                weight.normal_(generator=torch.Generator().manual_seed(seed))
        toy.losses(0, BATCH, images[BATCH])
        counted.append(toy.monitors.histogram.clone())
    assert torch.equal(*counted)


def test_the_teacher_is_the_result_and_runs_resume(tmp_path, train):
    changes = {"assignment": {"teacher_momentum": 0.9, "method": "balanced"}, "trained": "last"}
    changes["clustering"] = {"prototype_momentum": 0.5, "fine_clusters": 8, "merge": "view_confusion"}
    whole = train(tmp_path / "whole", **changes)
    with pytest.raises(Interrupted):
        train(tmp_path / "stopped", 6, **changes)
    resumed = train(tmp_path / "stopped", **changes)
    assert resumed.curves.rows == whole.curves.rows
    assert resumed.statistics == whole.statistics
    pairs = zip(resumed.segmenter.state_dict().values(), whole.segmenter.state_dict().values(), strict=True)
    assert all(torch.equal(one, two) for one, two in pairs)
    assert not any(weight.requires_grad for weight in whole.segmenter.parameters())
