import pytest

from pipeline.errors import InputError
from pipeline.evaluation.truth import open_truth
from pipeline.labels.division import Division, divide_labelled
from tests.labels.conftest import Data


def divide(data: Data, *splits: str, seed: int = 0, scored: str = "auto") -> Division:
    truth = open_truth(data.table, data.truth_table(*splits), scored, "error")
    return divide_labelled(data.table, truth, seed)


def test_train_is_learnt_and_val_is_scored(data):
    division = divide(data, "train", "val")
    assert [row.split for row in division.learnt] == ["train"] * 6
    assert [row.split for row in division.scored] == ["val"] * 3
    assert division.split == "val"


def test_several_splits_are_scored_but_never_what_was_learnt(tmp_path):
    data = Data(tmp_path, ["train", "val", "test", "val"])
    division = divide(data, "train", "val", "test", scored="val+test")
    assert [row.split for row in division.scored] == ["val", "test", "val"]
    assert division.split == "val+test"
    with pytest.raises(InputError, match=r"split 'train\+val' would be learnt from and scored at once"):
        divide(data, "train", "val", scored="train+val")


def test_without_other_masks_a_part_of_train_is_set_aside(data):
    division = divide(data, "train")
    assert len(division.learnt) == 5
    assert len(division.scored) == 1
    assert {row.image_id for row in division.learnt + division.scored} == {row.image_id for row in data.rows[:6]}
    assert division.scored == divide(data, "train").scored
    assert len({divide(data, "train", seed=seed).scored[0].image_id for seed in range(12)}) > 1
    assert "set aside" in division.split


def test_masks_that_are_missing_are_named(tmp_path, data):
    with pytest.raises(InputError, match="no masks were found"):
        divide(data)
    with pytest.raises(InputError, match="split train has no masks to learn from"):
        divide(data, "val")
    folder = tmp_path / "one"
    folder.mkdir()
    with pytest.raises(InputError, match="label a second one"):
        divide(Data(folder, ["train"]), "train")
