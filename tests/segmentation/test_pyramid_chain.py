"""From features to guidance: whatever map, mode and numbers of labels the pyramid has, every use works on it."""

import logging

import pytest
import torch

from pipeline.backbones.encoder import build_encoder
from pipeline.clustering.pyramid import cluster_pyramid, read_pseudo_labels
from pipeline.features.extraction import Images, extract_features
from pipeline.features.frozen import freeze_encoder
from pipeline.features.store import FeatureStore
from pipeline.params import ExtractParams, PggParams
from pipeline.runtime.artifacts import create_artifact, open_artifact
from pipeline.segmentation.training import gather_pyramid

LOG = logging.getLogger("fs4.test")
IDS = [f"{n}.png" for n in range(6)]
LEVELS = [1, 2, 4]
K = [3, 5, 7]


def build_pyramid(folder, images, mode, source):
    def load(batches):
        for batch in batches:
            yield batch, images[batch]

    encoder = build_encoder("resnet18", 8, seed=0)
    extract = ExtractParams(
        levels=LEVELS,
        mode=mode,
        source=source,
        pca=0,
        batch_size=3,
        shard_images=4,
        precision="fp32",
        max_bad_fraction=0.0,
    )
    with create_artifact(folder / "features") as writer:
        rows, _ = extract_features(
            Images(IDS, [f"{n:064x}" for n in range(6)], [(32, 32)] * 6, [True] * 6),
            load,
            freeze_encoder(encoder, source, device=torch.device("cpu"), precision="fp32"),
            dimension=encoder.map_width(source),
            params=extract,
            out=writer.path,
            store=FeatureStore(folder / "scratch"),
            metadata={},
            check_stop=lambda: None,
            log=LOG,
        )
        writer.rows |= rows
    grouping = PggParams(k=K, restarts=1, iterations=5, max_points_per_centroid=100, seed=0)
    with create_artifact(folder / "labels") as writer:
        features = open_artifact(folder / "features")
        cluster_pyramid(
            features, IDS, LEVELS, grouping, writer.path, writer.rows, LOG, scratch=folder, check_stop=lambda: None
        )
    return open_artifact(folder / "labels")


@pytest.mark.parametrize(
    ("mode", "source"), [("pool", "res4"), ("pool", "res5"), ("crop", "res5"), ("crop", "decoder")]
)
def test_every_use_works_on_every_pyramid(tmp_path, images, trainee, mode, source):
    artifact = build_pyramid(tmp_path, images, mode, source)
    assert list(read_pseudo_labels(artifact, [2, 4])) == [2, 4]
    pyramid = gather_pyramid(read_pseudo_labels(artifact), IDS, 0.2)
    assert [level.k for level in pyramid] == K
    every = ["classification", "contrast", "prior", "strata"]
    toy = trainee(pyramid=pyramid, pgg={"use": every, "recluster_every": 1, "levels": [2, 4]})
    assert [head.last.out_features for head in toy.guidance.heads] == K[1:]
    for epoch in (0, 1):
        toy.begin_epoch(epoch)
        assert [len(prior.counts) for prior in toy.prototypes.priors] == [2, 2]
        assert all(level.labels.max() < level.k for level in toy.guidance.levels)
        values = toy.losses(epoch, [4, 0, 2], images[[4, 0, 2]])
        assert all(torch.isfinite(value) for value in values.values())
    # in pool mode a 1 x 1 map gives all cells of an image the same label; the segmenter's own map does not
    assert toy.guidance.levels[1].labels[0].unique().numel() > 1
