import json
import logging

import pytest
import torch
import torchvision

from pipeline.backbones.encoder import build_encoder
from pipeline.pretext.start import build_start
from tests.pretext.test_pretrain import params, same, train

LOG = logging.getLogger("fs4.test")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "w.pth"
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), path)
    return str(path)


def test_without_a_checkpoint_the_start_is_random_and_says_nothing(tmp_path):
    start = build_start(params(), LOG)
    assert same(start.encoder, build_encoder("resnet18", 8, seed=params().seed))
    assert start.notes() == {}
    assert start.resume_folder(tmp_path) == tmp_path
    start.write(tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_import_is_logged_noted_and_written(tmp_path, checkpoint, caplog):
    with caplog.at_level(logging.INFO, logger="fs4.test"):
        start = build_start(params(method="checkpoint", checkpoint=checkpoint, allow_supervised_init=True), LOG)
    assert "100 of 100 tensors of the backbone matched (100.0%)" in caplog.text
    notes = start.notes()
    assert notes["labels_used"] is True
    assert notes["checkpoint"]["file"] == "w.pth"
    assert notes["checkpoint"]["matched_share"] == 1.0
    folder = start.resume_folder(tmp_path)
    assert folder.is_dir()
    assert folder.name == notes["checkpoint"]["sha256"][:16]
    start.write(tmp_path)
    written = json.loads((tmp_path / "import.json").read_text())
    assert written["unexpected"] == ["fc.bias", "fc.weight"]


def test_training_goes_on_from_a_checkpoint_or_leaves_it_as_it_is(tmp_path, checkpoint):
    changes = {"checkpoint": checkpoint, "allow_supervised_init": True}
    kept = build_start(params(method="checkpoint", **changes), LOG).encoder
    encoder, curves = train(tmp_path / "kept", method="checkpoint", start=kept, **changes)
    assert encoder is kept
    assert curves.rows == []
    start = build_start(params(epochs=1, **changes), LOG).encoder
    before = start.backbone.stem[0].weight.detach().clone()
    encoder, curves = train(tmp_path, start=start, epochs=1, **changes)
    assert encoder is start
    assert len(curves.rows) == 1
    moved = (encoder.backbone.stem[0].weight - before).abs().max()
    assert 0 < moved < 0.01
