import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import InputError, ParamsError
from pipeline.evaluation.scoring import score_folders
from pipeline.runtime.artifacts import open_artifact

CLASSES = {
    "classes": [
        {"id": i, "name": n, "kind": k} for i, n, k in ((0, "sky", "stuff"), (1, "sea", "stuff"), (2, "sun", "thing"))
    ]
}
NAMES = ("one", "deep/two", "deep/three")


def mask_of(index: int) -> np.ndarray:
    mask = np.zeros((24, 32), np.uint8)
    mask[12:] = 1
    mask[2:8, 6 * index : 6 * index + 6] = 2
    mask[-1] = 255
    return mask


class Folders:
    """Masks, and predictions that are a function of them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "classes.json").write_text(json.dumps(CLASSES))
        for index, name in enumerate(NAMES):
            self.save("truth", name, mask_of(index))

    def save(self, folder: str, name: str, labels: np.ndarray) -> None:
        path = self.root / folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(labels).save(path)

    def predict(self, labels) -> None:
        for index, name in enumerate(NAMES):
            self.save("predictions", name, labels(mask_of(index)))

    def score(self, classes: bool = True, **changes):
        options = {"rule": "hungarian", "boundary": False, "resize": False, "seed": 0} | changes
        options.setdefault("output", self.root / "out")
        options["classes_file"] = self.root / "classes.json" if classes else None
        self.table = score_folders(self.root / "predictions", self.root / "truth", **options)
        return open_artifact(self.root / "out").json("metrics.json") if options["output"] else None

    def json(self, name: str):
        return open_artifact(self.root / "out").json(name)


@pytest.fixture
def folders(tmp_path) -> Folders:
    return Folders(tmp_path)


def rename(mask, dtype=np.uint8, ids=(200, 3, 255)):
    return np.array(ids, dtype)[np.minimum(mask, 2)]


@pytest.mark.parametrize(("dtype", "ids"), [(np.uint8, (200, 3, 255)), (np.uint16, (65_535, 300, 0))])
def test_a_perfect_segmentation_is_100_under_any_ids(folders, dtype, ids):
    folders.predict(lambda mask: rename(mask, dtype, ids))
    metrics = folders.score(boundary=True)
    for section in ("all", "things", "stuff"):
        assert set(metrics[section].values()) == {100.0}
    assert metrics["per_class"] == metrics["boundary"]["per_class"] == {"sky": 100.0, "sea": 100.0, "sun": 100.0}
    assert metrics["boundary"]["f1"] == 100.0
    assert metrics["partition"]["ari"] == 1.0
    assert metrics["clusters"] == {**metrics["clusters"], "k": 3, "used": 3}
    assert metrics["protocol"] == {"classes_counted": 3, "images": 3, "pixels": 3 * 23 * 32}
    assert metrics["floors"]["majority_class"]["pixel_accuracy"] < 60
    confusion = folders.json("confusion.json")
    assert confusion["clusters"] == sorted(ids)
    assert [ids[match] for match in confusion["class_of_cluster"]] == confusion["clusters"]


def test_the_result_has_the_keys_of_stage_evaluate(folders):
    folders.predict(rename)
    metrics = folders.score()
    assert set(metrics) == {
        *("all", "things", "stuff", "restricted", "majority", "per_class"),
        *("partition", "bootstrap", "protocol", "floors", "clusters"),
    }
    protocol = folders.json("protocol.json")
    assert protocol["match_rule"].startswith("hungarian: one to one")
    assert protocol["absent_classes"] == "none"
    assert {"split", "matched_on", "checkpoint_rule", "frame", "labels", "classes_note"} <= set(protocol)


def test_surplus_clusters_are_errors_one_to_one_and_right_many_to_one(folders):
    def split_sea(mask):
        labels = mask.copy()
        labels[12:16] = 7
        return labels

    folders.predict(split_sea)
    one, both, many = (folders.score(rule=rule) for rule in ("hungarian", "hungarian+majority", "majority"))
    # what is ignored is not counted, but the cluster that covers it is one
    assert one["clusters"]["k"] == 5
    assert one["all"]["pixel_accuracy"] == pytest.approx(100 * (1 - 4 * 32 / (23 * 32)))
    assert both["all"] == many["all"] == {**many["all"], "miou": 100.0, "pixel_accuracy": 100.0}
    assert one["majority"]["pixel_accuracy"] == 100.0
    assert folders.json("protocol.json")["match_rule"].startswith("majority: many to one")


def test_with_fewer_clusters_than_classes_the_rest_has_iou_0(folders):
    folders.predict(np.zeros_like)
    metrics = folders.score(boundary=True)
    assert sorted(metrics["per_class"].values())[:2] == [0.0, 0.0]
    assert metrics["all"]["pixel_accuracy"] == metrics["floors"]["majority_class"]["pixel_accuracy"]
    assert metrics["partition"] == {"ari": 0.0, "nmi": 0.0}
    assert metrics["boundary"]["f1"] == 0.0


def test_agreement_without_a_match_is_that_of_the_labelled_pixels(folders):
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    rng, drawn = np.random.default_rng(0), []

    def disturb(mask):
        labels = np.where(rng.random(mask.shape) < 0.2, rng.integers(0, 6, mask.shape), mask % 5)
        drawn.append(labels)
        return labels.astype(np.uint8)

    folders.predict(disturb)
    truth = np.concatenate([mask_of(index).ravel() for index in range(len(NAMES))])
    found = np.concatenate([labels.ravel() for labels in drawn])
    valid = truth != 255
    assert not valid.all()
    assert folders.score()["partition"] == {
        "nmi": pytest.approx(normalized_mutual_info_score(truth[valid], found[valid])),
        "ari": pytest.approx(adjusted_rand_score(truth[valid], found[valid])),
    }


def test_without_a_class_list_the_ids_that_occur_are_the_classes(folders):
    folders.predict(rename)
    metrics = folders.score(classes=False)
    assert set(metrics["per_class"]) == {"class 0", "class 1", "class 2"}
    assert "things" not in metrics
    assert "restricted" not in metrics


def test_ids_with_a_gap_make_no_classes_that_do_not_occur(folders):
    for index, name in enumerate(NAMES):
        folders.save("truth", name, np.array([0, 5, 5, 255], np.uint8)[np.minimum(mask_of(index), 3)])

    def three_clusters(mask):
        labels = mask.copy()
        labels[:, :4] = 9
        return labels

    folders.predict(three_clusters)
    metrics = folders.score(classes=False)
    assert list(metrics["per_class"]) == ["class 0", "class 5"]
    assert metrics["protocol"]["classes_counted"] == 2
    assert metrics["all"]["miou"] == metrics["all"]["miou_present"]
    assert folders.json("protocol.json")["absent_classes"] == "none"
    assert sorted(folders.json("confusion.json")["class_of_cluster"])[-2:] == [0, 1]


def test_an_id_outside_the_table_is_an_error_that_names_the_mask(folders):
    folders.predict(rename)
    folders.save("truth", "deep/two", np.where(mask_of(1) == 2, 9, mask_of(1)).astype(np.uint8))
    with pytest.raises(InputError, match=r"two\.png: ids 9 are not among the 3 classes, and ignore_index is 255"):
        folders.score()
    folders.save("truth", "deep/two", mask_of(1).astype(np.uint16) + 256)
    with pytest.raises(InputError, match=r"two\.png: ids 256, 257, 258, 511 are not"):
        folders.score()


def test_a_split_without_a_labelled_pixel_is_nothing_to_evaluate(folders):
    folders.predict(rename)
    for name in NAMES:
        folders.save("truth", name, np.full((24, 32), 255, np.uint8))
    for classes in (True, False):
        with pytest.raises(InputError, match="nothing to evaluate"):
            folders.score(classes=classes)
    assert not (folders.root / "out").exists()


def test_an_image_that_is_ignored_altogether_changes_no_figure(folders):
    folders.predict(lambda mask: np.roll(rename(mask), 3, axis=1))
    before = folders.score()
    folders.save("truth", "more", np.full((9, 9), 255, np.uint8))
    folders.save("predictions", "more", np.full((9, 9), 3, np.uint8))
    after = folders.score()
    assert {**after, "protocol": 0, "clusters": 0} == {**before, "protocol": 0, "clusters": 0}


def test_one_labelled_image_has_no_interval_and_no_word_about_one(folders):
    folders.predict(rename)
    assert "bootstrap" in folders.score()
    assert "bootstrap" in folders.json("protocol.json")
    for name in NAMES[1:]:
        folders.save("truth", name, np.full((24, 32), 255, np.uint8))
    assert "bootstrap" not in folders.score()
    assert "bootstrap" not in folders.json("protocol.json")


def test_another_size_needs_to_be_asked_for(folders):
    folders.predict(lambda mask: rename(mask)[::2, ::2])
    with pytest.raises(
        InputError, match=r"predictions/deep/three\.png: is 16 x 12, but its mask .* is 32 x 24.*--resize"
    ):
        folders.score()
    metrics = folders.score(resize=True, boundary=True)
    assert metrics["all"]["pixel_accuracy"] > 90
    assert "3 of 3 predictions resized" in folders.json("protocol.json")["frame"]


def test_predictions_in_colour_are_refused(folders):
    folders.predict(lambda mask: np.stack([mask] * 3, axis=-1))
    with pytest.raises(InputError, match=r"three\.png: is RGB; save ids, not colours"):
        folders.score()


def test_class_names_that_occur_twice_are_refused(folders):
    folders.predict(rename)
    entries = [{"id": 0, "name": "sky"}, {"id": 1, "name": "sky"}]
    (folders.root / "classes.json").write_text(json.dumps({"classes": entries}))
    with pytest.raises(InputError, match=r'classes\.json: the class name "sky" is used twice'):
        folders.score()


def test_an_unknown_rule_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(ParamsError, match="'argmax'; the rules are"):
        score_folders(
            tmp_path, tmp_path, classes_file=None, rule="argmax", output=None, boundary=False, resize=False, seed=0
        )


def test_only_an_earlier_result_is_replaced(folders):
    folders.predict(rename)
    folders.score()
    first = (folders.root / "out/metrics.json").read_bytes()
    folders.score()
    assert (folders.root / "out/metrics.json").read_bytes() == first
    (folders.root / "out/own notes.txt").write_text("keep me")
    for output in (folders.root / "out", folders.root / "truth", folders.root / "classes.json"):
        with pytest.raises(InputError, match=r"--output: .* holds something else"):
            folders.score(output=output)
    assert (folders.root / "out/own notes.txt").read_text() == "keep me"


def test_without_an_output_nothing_is_written(folders):
    folders.predict(rename)
    before = sorted(folders.root.rglob("*"))
    assert folders.score(output=None) is None
    assert sorted(folders.root.rglob("*")) == before


def test_the_table_shows_sections_classes_and_what_belongs_beside_them(folders):
    folders.predict(rename)
    folders.score(boundary=True)
    lines = folders.table.splitlines()
    assert lines[0] == "3 pairs, 2208 pixels, 3 classes (3 in the mIoU), 3 clusters; match: hungarian"
    assert lines[2].split() == ["mIoU", "present", "accuracy", "mean", "accuracy"]
    assert lines[3].split() == ["all", *["100.0"] * 4]
    assert any(line.startswith("by majority") and line.endswith("–") for line in lines)
    assert "95 % interval over images: mIoU 100.0 to 100.0, accuracy 100.0 to 100.0" in lines
    assert "without matching (0 to 1): NMI 1.000, ARI 1.000" in lines
    assert [line.split() for line in lines[-3:]] == [[name, "100.0", "100.0"] for name in ("sky", "sea", "sun")]
    assert len({len(line) for line in lines[2:9]}) == 1
