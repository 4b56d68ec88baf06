import pytest

from pipeline.data.manifest import ImageRow
from pipeline.errors import InputError
from pipeline.export.compared import Chosen, choose_images, scored_split
from pipeline.runtime.artifacts import create_artifact, open_artifact, write_json
from pipeline.runtime.digests import file_digest

SPLITS = ["test"] * 3 + ["train"] * 10 + ["val"] * 5
ROWS = [ImageRow(f"{split}/{i}", split, "", 1, 1, "", "ok") for i, split in enumerate(SPLITS)]


def test_images_are_spread_over_their_split():
    assert choose_images(ROWS, 3, 2) == Chosen([3, 7, 12], [13, 17], "val")
    assert choose_images(ROWS[:13], 99, 0) == Chosen(list(range(3, 13)), list(range(3, 13)), "train")
    with pytest.raises(InputError, match="no train images"):
        choose_images(ROWS[13:], 1, 1)


def test_the_scored_split_goes_before_val():
    assert choose_images(ROWS, 1, 0, "test") == Chosen([3], [0, 1, 2], "test")
    assert choose_images(ROWS, 1, 0, "train") == Chosen([3], list(range(3, 13)), "train")
    assert choose_images(ROWS, 1, 0, "train+val") == Chosen([3], list(range(3, 18)), "train+val")
    assert choose_images(ROWS, 1, 2, "gone").split == "val"


def test_the_scored_split_is_read_from_the_evaluation_of_the_same_model(model, tmp_path):
    def evaluate(name: str, digest: str, protocol: dict) -> str:
        with create_artifact(tmp_path / name) as writer:
            writer.notes |= {"inputs": {"data/segmenter": digest}}
            write_json(writer.path / "protocol.json", protocol)
        return scored_split(tmp_path / name, open_artifact(model))

    own = file_digest(model / "manifest.json")
    assert evaluate("own", own, {"split": "test+val"}) == "test+val"
    assert evaluate("other", "0" * 64, {"split": "test"}) == ""
    assert evaluate("without masks", own, {}) == ""
    assert scored_split(tmp_path / "gone", open_artifact(model)) == ""
    (tmp_path / "own/protocol.json").write_text("{")
    assert scored_split(tmp_path / "own", open_artifact(model)) == ""
