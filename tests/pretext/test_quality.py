from collections.abc import Iterator

import pytest
import torch

from pipeline.backbones.encoder import build_encoder
from pipeline.pretext.quality import IMAGES, PLACES, ViewQuality, match_share
from pipeline.training.loop import Batches
from tests.pretext.conftest import settings

FRAMES = torch.randint(0, 256, (6, 3, 32, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
PARAMS = settings(view_size=32, batch_size=3, precision="fp32", channels=8)


def load(batches: Batches) -> Iterator[tuple[list[int], torch.Tensor]]:
    for batch in batches:
        yield batch, FRAMES[batch]


def test_a_match_is_the_nearest_row_in_both_directions():
    rows = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    assert match_share(rows, 3 * rows) == 1.0
    assert match_share(rows, rows.roll(1, 0)) == 0.0
    half = rows.clone()
    half[[0, 1]] = rows[[1, 0]]
    assert match_share(rows, half) == pytest.approx(0.6)
    # everything alike: the first row is the nearest of all
    assert match_share(torch.ones(4, 3), torch.ones(4, 3)) == 0.25


def test_the_figures_are_the_same_at_every_call_and_leave_the_network_as_it_was():
    encoder = build_encoder("resnet18", 8, seed=0).train()
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    quality = ViewQuality(PARAMS, [(32, 64)] * 6, load)
    first, second = quality.measure(encoder), quality.measure(encoder)
    assert first == second
    assert set(first) == {"image_match", "place_match", "effective_rank"}
    assert encoder.training
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())
    again = ViewQuality(
        PARAMS.model_copy(update={"views": settings(views={"jitter": 0.0}).views}), [(32, 64)] * 6, load
    )
    assert again.measure(encoder) == first  # whatever the method trains on


def test_what_cannot_be_measured_is_left_out():
    encoder = build_encoder("resnet18", 8, seed=0)
    none = ViewQuality(PARAMS, [(32, 64), (64, 32)], load)
    assert none.measure(encoder) == {}
    assert none.describe(encoder, []) == {"method": PARAMS.method, "epochs": 0, "images_measured": 0}


def test_a_network_whose_output_is_not_finite_has_no_quality():
    encoder = build_encoder("resnet18", 8, seed=0)
    with torch.no_grad():
        next(encoder.decoder.parameters()).fill_(float("nan"))
    measured = ViewQuality(PARAMS, [(32, 64)] * 6, load).measure(encoder)
    assert measured == {"image_match": 0.0, "place_match": 0.0, "effective_rank": 0.0}


def test_the_description_has_the_last_row_and_what_chance_gives():
    encoder = build_encoder("resnet18", 8, seed=0)
    quality = ViewQuality(PARAMS, [(32, 64)] * 6, load)
    described = quality.describe(encoder, [{"loss": 2.0}, {"loss": 1.0, "learning_rate": 0.1}])
    assert described["loss"] == 1.0
    assert described["epochs"] == 2
    assert "learning_rate" not in described
    assert described["image_match_chance"] == pytest.approx(1 / 6)
    assert described["place_match_chance"] == pytest.approx(1 / 6 / PLACES)
    assert IMAGES >= 6
