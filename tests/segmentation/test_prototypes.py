import numpy as np
import pytest
import torch

from pipeline.clustering.kmeans import assign, fit_kmeans
from pipeline.errors import TrainingError
from pipeline.segmentation import prototypes as module
from pipeline.segmentation.assignment import choose_labels
from pipeline.segmentation.merging import confusion_groups, count_confusion, ward_groups
from pipeline.segmentation.pixel_clustering import PixelSample
from pipeline.segmentation.prototypes import EpochPrototypes


@pytest.fixture
def maps() -> list[torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    return [torch.nn.functional.normalize(torch.randn(6, 8, 8, 8, generator=rng), dim=1) for _ in range(2)]


@pytest.fixture
def bank(trainee):
    return lambda **changes: EpochPrototypes(trainee(**changes).params, 6, 8, torch.device("cpu"))


def fit(found: EpochPrototypes, epoch: int, maps: list[torch.Tensor]) -> np.ndarray:
    batches = [[0, 1, 2, 3], [4, 5]]
    return found.fit(epoch, [(batch, tuple(view[batch] for view in maps[: found.views]), []) for batch in batches])


def test_each_view_has_the_means_of_its_own_pixels(bank, maps):
    found = bank(clustering={"iterations": 60, "restarts": 2})
    points = fit(found, 0, maps)
    assert points.shape == (240, 8)
    for view in range(2):
        sample = PixelSample(6, 4, found.params.clustering, found.params.seed, f"view {view + 1}", 0)
        sample.add([0, 1, 2, 3, 4, 5], maps[view])
        labels = assign(sample.points(), found.centroids[view].numpy(), spherical=False).labels
        assert np.bincount(labels, minlength=4).tolist() == found.sizes[view].tolist()
        means = np.stack([sample.points()[labels == cluster].mean(0) for cluster in range(4)])
        np.testing.assert_allclose(found.centroids[view], means, atol=1e-4)


def test_one_view_has_one_set(bank, maps):
    one, two = bank(one_view=True), bank()
    fit(one, 0, maps)
    fit(two, 0, maps)
    assert one.centroids.shape == (1, 4, 8)
    assert torch.equal(one.centroids[0], two.centroids[0])


@pytest.mark.parametrize("changes", [{"warm_start": True}, {"prototype_momentum": 0.75}])
def test_a_warm_start_goes_on_from_the_prototypes_of_the_epoch_before(bank, maps, changes, monkeypatch):
    calls = []

    def recorded(points, k, **settings):
        calls.append((points, settings))
        return fit_kmeans(points, k, spherical=False, **settings)

    monkeypatch.setattr(module, "fit_prototypes", recorded)
    found = bank(clustering={"restarts": 3, **changes})
    fit(found, 0, maps)
    old = found.centroids.clone()
    assert all(settings["start"] is None and settings["restarts"] == 3 for _, settings in calls)
    calls.clear()
    fit(found, 1, maps)
    for view, (points, settings) in enumerate(calls):
        np.testing.assert_array_equal(settings["start"], old[view])
        assert settings["restarts"] == 1
        new = fit_kmeans(points, 4, spherical=False, **settings).centroids
        kept = changes.get("prototype_momentum", 0.0)
        np.testing.assert_allclose(found.centroids[view], kept * old[view].numpy() + (1 - kept) * new, atol=1e-6)


def test_epochs_start_cold_by_default(bank, maps):
    found, fresh = bank(), bank()
    fit(found, 0, maps)
    fit(found, 1, maps)
    fit(fresh, 1, maps)
    assert torch.equal(found.centroids, fresh.centroids)


def test_a_resumed_bank_goes_on_warm(bank, maps):
    found, other = (bank(clustering={"prototype_momentum": 0.5}) for _ in range(2))
    fit(found, 0, maps)
    other.load_state_dict(found.state_dict())
    for each in (found, other):
        fit(each, 1, maps)
    assert torch.equal(found.centroids, other.centroids)


def test_fine_clusters_are_merged_by_ward(bank, maps):
    found = bank(clustering={"fine_clusters": 9})
    fit(found, 0, maps)
    assert found.centroids.shape == (2, 9, 8)
    for view in range(2):
        sample = PixelSample(6, 4, found.params.clustering, found.params.seed, f"view {view + 1}", 0)
        sample.add([0, 1, 2, 3, 4, 5], maps[view])
        centroids = found.centroids[view].numpy()
        labels = assign(sample.points(), centroids, spherical=False).labels
        groups = ward_groups(centroids, np.bincount(labels, minlength=9), 4)
        np.testing.assert_array_equal(found.groups[view], groups)
        assert found.sizes[view].tolist() == np.bincount(groups[labels], minlength=4).tolist()
        nearest = torch.cdist(maps[view].permute(0, 2, 3, 1).flatten(0, 2), found.centroids[view]).argmin(1)
        assert torch.equal(found.assign(maps[view], view).flatten(), found.groups[view][nearest])


def test_fine_clusters_are_merged_by_what_the_other_view_confuses(bank, maps, monkeypatch):
    seen = []

    def recorded(confusion, k, seed):
        seen.append(confusion)
        return confusion_groups(confusion, k, seed)

    monkeypatch.setattr(module, "confusion_groups", recorded)
    found = bank(clustering={"fine_clusters": 9, "merge": "view_confusion"})
    fit(found, 0, maps)
    spots = []
    for embedding in maps:
        sample = PixelSample(6, 4, found.params.clustering, found.params.seed, "spots", 0)
        sample.add([0, 1, 2, 3, 4, 5], embedding)
        spots.append(sample.points())
    for view in range(2):
        np.testing.assert_array_equal(seen[view], count_confusion(found.centroids[view].numpy(), *spots))
    assert all(set(groups.tolist()) <= set(range(4)) for groups in found.groups)


def test_as_many_fine_clusters_as_clusters_give_the_same_loss(bank, maps):
    plain, merged = bank(), bank(clustering={"fine_clusters": 4})
    for each in (plain, merged):
        fit(each, 0, maps)
    labels = plain.assign(maps[0], 0)
    assert torch.equal(merged.assign(maps[0], 0), labels)
    torch.testing.assert_close(merged.loss(maps[1], 0, labels), plain.loss(maps[1], 0, labels))


def test_broken_embeddings_name_the_epoch(bank, maps):
    maps[1][3] = float("nan")
    with pytest.raises(TrainingError, match="epoch 5: some embeddings are not finite"):
        fit(bank(), 4, maps)


def labelled_fit(found, maps, labels):
    batches = [[0, 1, 2, 3], [4, 5]]
    embedded = [
        (b, tuple(view[b] for view in maps[: found.views]), [of_level[b] for of_level in labels]) for b in batches
    ]
    return found.fit(0, embedded)


@pytest.mark.parametrize("method", ["nearest", "balanced"])
@pytest.mark.parametrize("fine", [0, 6])
def test_the_prior_of_a_pixels_cell_is_added_to_its_scores(trainee, maps, method, fine):
    changes = {"temperature": 0.5, "pgg": {"use": ["prior"], "prior_strength": 0.7}, "assignment": {"method": method}}
    toy = trainee(clustering={"fine_clusters": fine}, **changes)
    found = EpochPrototypes(toy.params, 6, 8, torch.device("cpu"), [2, 3])
    labels = [torch.randint(-1, k, (6, 8, 8), generator=torch.Generator().manual_seed(k)) for k in (2, 3)]
    points = labelled_fit(found, maps, labels)
    places = {tuple(row.tolist()): i for i, row in enumerate(maps[0].permute(0, 2, 3, 1).reshape(-1, 8))}
    mu = found.centroids[0]
    counts = [np.zeros((k, len(mu))) for k in (2, 3)]
    for row in points:
        nearest = np.square(mu.numpy() - row).sum(1).argmin()
        for table, of_level in zip(counts, labels, strict=True):
            if (label := int(of_level.flatten()[places[tuple(row.tolist())]])) >= 0:
                table[label, nearest] += 1
    for prior, table in zip(found.priors[0].counts, counts, strict=True):
        np.testing.assert_array_equal(prior.numpy(), table)
    scores = torch.empty(6, len(mu), 8, 8)
    for b, y, x in np.ndindex(6, 8, 8):
        e = maps[0][b, :, y, x]
        log_prior = torch.zeros(len(mu))
        for table, of_level in zip(counts, labels, strict=True):
            label = int(of_level[b, y, x])
            share = (table[label] + 1) / (table[label].sum() + len(mu)) if label >= 0 else np.full(len(mu), 1 / len(mu))
            log_prior += torch.from_numpy(np.log(share)).float() / 2
        scores[b, :, y, x] = (mu @ e - mu.square().sum(1) / 2) / 0.5 + 0.7 * log_prior
    expected = choose_labels(scores * 0.5, toy.params.assignment)
    expected = found.groups[0][expected]
    assert (found.assign(maps[0], 0, labels) == expected).float().mean() > 0.99
    found.priors = []
    assert (found.assign(maps[0], 0, labels) == expected).float().mean() < 0.99


def test_counts_come_back_with_the_state(trainee, maps):
    toy = trainee(pgg={"use": ["prior"]})
    one, two = (EpochPrototypes(toy.params, 6, 8, torch.device("cpu"), [2]) for _ in range(2))
    labels = [torch.randint(0, 2, (6, 8, 8), generator=torch.Generator().manual_seed(0))]
    labelled_fit(one, maps, labels)
    two.load_state_dict(one.state_dict())
    assert torch.equal(one.assign(maps[1], 1, labels), two.assign(maps[1], 1, labels))
    assert two.priors[1].counts[0].sum() == 240
