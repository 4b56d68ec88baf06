import numpy as np
import torch

from pipeline.segmentation.labelled_sample import LabelledSample
from pipeline.segmentation.pixel_clustering import PixelSample

EMBEDDING = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = [torch.randint(-1, k, (6, 8, 8), generator=torch.Generator().manual_seed(k)) for k in (2, 5)]
PLACES = {tuple(row.tolist()): i for i, row in enumerate(EMBEDDING.permute(0, 2, 3, 1).reshape(-1, 3))}


def collect(params, counts, labels):
    sample = LabelledSample(params, 6, counts, "test", 0)
    for batch in ([3, 1, 5], [0, 4, 2]):
        sample.add(batch, EMBEDDING[batch], [of_level[batch] for of_level in labels])
    return sample


def test_without_labels_it_is_the_plain_sample(params):
    settings = params()
    plain = PixelSample(6, settings.k, settings.clustering, settings.seed, "test", 0)
    plain.add(list(range(6)), EMBEDDING)
    sample = collect(settings, [], [])
    np.testing.assert_array_equal(sample.points(), plain.points())
    assert sample.labels() == []


def test_labels_belong_to_their_pixels(params):
    for use in (["prior"], ["strata"], ["prior", "strata"]):
        sample = collect(params(pgg={"use": use}), [2, 5], LABELS)
        places = [PLACES[tuple(row)] for row in sample.points().tolist()]
        assert len(places) == len(set(places)) > 100
        for found, labels in zip(sample.labels(), LABELS, strict=True):
            np.testing.assert_array_equal(found, labels.flatten()[places].numpy())


def test_the_prior_alone_does_not_change_the_sample(params):
    np.testing.assert_array_equal(
        collect(params(pgg={"use": ["prior"]}), [2, 5], LABELS).points(), collect(params(), [], []).points()
    )


def test_strata_give_every_label_of_the_finest_level_an_equal_share(params):
    sample = collect(params(pgg={"use": ["strata"]}), [2, 5], LABELS)
    assert np.bincount(sample.labels()[1]).tolist() == [48] * 5  # 4 clusters of 60 pixels, 5 labels
