import json

import numpy as np
import pytest
from PIL import Image

from pipeline.data.classes import ClassList
from pipeline.errors import InputError, ParamsError
from pipeline.evaluation.earlier_match import load_match
from pipeline.evaluation.scoring import score_folders
from pipeline.runtime.artifacts import create_artifact, open_artifact, write_json

CLASSES = ClassList(("sky", "sea"), None, 255)
OPTIONS = {"boundary": False, "resize": False, "seed": 0}


def save(folder, ids):
    folder.mkdir(exist_ok=True)
    Image.fromarray(np.array([ids], np.uint8)).save(folder / "a.png")
    return folder


@pytest.fixture
def scored(tmp_path):
    """Train: clusters 7 and 9 are the classes 0 and 1. Val: the other way round, and a cluster 8 that is new."""
    entries = [{"id": i, "name": name} for i, name in enumerate(CLASSES.names)]
    (tmp_path / "classes.json").write_text(json.dumps({"classes": entries}))

    def score(split, labels, truth, rule="hungarian", **changes):
        options = {**OPTIONS, "classes_file": tmp_path / "classes.json", "output": tmp_path / f"{split}-out", **changes}
        places = (save(tmp_path / f"{split}-{kind}", ids) for kind, ids in (("p", labels), ("t", truth)))
        table = score_folders(*places, rule=rule, **options)
        out = open_artifact(tmp_path / f"{split}-out")
        return table, out.json("metrics.json"), out.json("protocol.json")

    return score


@pytest.mark.parametrize("rule", ["hungarian", "majority"])
def test_the_match_of_one_split_is_applied_to_another(scored, tmp_path, rule):
    scored("train", [7, 7, 9, 9], [0, 0, 1, 1], rule)
    labels, truth = [9, 9, 7, 7, 8], [0, 0, 1, 0, 1]
    _, own, notes = scored("val", labels, truth)
    assert own["all"]["pixel_accuracy"] == 60.0
    assert notes["matched_on"] == "the scored pairs"
    table, fixed, notes = scored("val", labels, truth, match_from=tmp_path / "train-out")
    assert fixed["all"]["pixel_accuracy"] == fixed["majority"]["pixel_accuracy"] == 20.0
    assert f"match: {rule}" in table
    assert notes["match_rule"].startswith(f"{rule}: ")
    assert notes["matched_on"] == f"the pairs of {tmp_path / 'train-out'}, fixed before"


def test_a_result_of_stage_evaluate_serves_too(tmp_path):
    with create_artifact(tmp_path / "out") as writer:
        write_json(writer.path / "protocol.json", {"match_rule": "hungarian: one to one"})
        stored = {"classes": ["sky", "sea"], "matrix": [[1, 0, 4], [0, 5, 1]], "class_of_cluster": [-1, 1, 0]}
        write_json(writer.path / "confusion.json", stored)
    first, second = load_match(tmp_path / "out", CLASSES).assign([0, 2, 6])
    assert (first.rule, first.class_of_cluster) == ("hungarian", (-1, 0, -1))
    assert second.class_of_cluster == (0, 0, -1)


def test_what_is_no_result_or_of_other_classes_is_refused(scored, tmp_path):
    scored("train", [7, 9], [0, 1])
    with pytest.raises(InputError, match=r"train-out has the classes sky, sea…, and these masks sun…; give a result"):
        load_match(tmp_path / "train-out", ClassList(("sun",), None, 255))
    with create_artifact(tmp_path / "other") as writer:
        write_json(writer.path / "metrics.json", {})
    with pytest.raises(InputError, match=r"--match-from: .*other holds no confusion\.json"):
        load_match(tmp_path / "other", CLASSES)
    with pytest.raises(InputError, match="gone"):
        load_match(tmp_path / "gone", CLASSES)
    with pytest.raises(ParamsError, match="--match: majority was given, but --match-from brings its own rule"):
        scored("val", [7, 9], [0, 1], "majority", match_from=tmp_path / "train-out")
