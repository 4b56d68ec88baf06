import copy
import subprocess

import pytest

from pipeline.params import NO_CHECKPOINT, parse_params
from tests.graph.project import ROOT
from tests.test_params import RAW, refuse


def with_pretrain(**changes):
    raw = copy.deepcopy(RAW)
    raw["pretrain"] |= changes
    return raw


@pytest.mark.parametrize("source", ["res4", "res5"])
def test_a_vit_has_one_map(source):
    raw = with_pretrain(backbone="vit_small_patch8")
    raw["extract"]["source"] = source
    assert f"extract.source: {source} is no map of vit_small_patch8, which has one only; give last" in refuse(raw)
    raw["extract"]["source"] = "last"
    assert parse_params(raw)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "checkpoint"}, "pretrain.method: checkpoint takes its weights from pretrain.checkpoint"),
        ({"method": "none", "checkpoint": "/w.pth"}, "/w.pth is not read by pretrain.method none"),
        ({"allow_supervised_init": True}, "pretrain.allow_supervised_init: true is about the weights of"),
        ({"checkpoint": "../w.pth"}, "pretrain.checkpoint: '../w.pth' is neither absolute nor inside the project"),
        ({"checkpoint": "~/w.pth"}, "pretrain.checkpoint: '~/w.pth' is neither absolute nor inside the project"),
        ({"checkpoint": " "}, "pretrain.checkpoint: ' ' is neither absolute nor inside the project"),
    ],
)
def test_checkpoints_fit_the_method(changes, message):
    assert message in refuse(with_pretrain(**changes))


def test_every_training_method_may_start_from_a_checkpoint():
    for method in ("checkpoint", "dense_clusters", "global_dense"):
        assert parse_params(with_pretrain(method=method, checkpoint="/w.pth", allow_supervised_init=True))


def test_the_file_that_stands_for_none_is_part_of_the_project():
    # not empty: DVC would warn of it at every run
    assert (ROOT / NO_CHECKPOINT).stat().st_size
    listed = subprocess.run(["git", "ls-files", NO_CHECKPOINT], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    assert listed.stdout
