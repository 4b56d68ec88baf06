import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from pipeline.data.frames import Frame
from pipeline.data.manifest import ImageRow, ImageTable, TruthRow, TruthTable
from pipeline.errors import InputError, ParamsError
from pipeline.evaluation.draws import drawn_images, scored_images
from pipeline.evaluation.evaluate import evaluate_segmenter
from pipeline.evaluation.label_maps import iterate_label_maps
from pipeline.evaluation.truth import open_truth
from pipeline.params import load_params
from pipeline.runtime.artifacts import create_artifact, open_artifact

SIDE = 32
PARAMS = load_params(Path(__file__).parents[2] / "params.yaml").evaluate.model_copy(
    update={"floor_restarts": 1, "floor_seeds": 1, "gallery": 3}
)
SPLITS = ["train"] * 3 + ["val"] * 4
KINDS = ["stuff", "stuff", "thing"]
CLASSES = {"classes": [{"id": i, "name": name, "kind": KINDS[i]} for i, name in enumerate(("sky", "sea", "sun"))]}


def mask_of(index: int) -> np.ndarray:
    """Sky above, sea below, and a sun that moves."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[SIDE // 2 :] = 1
    mask[3:9, 4 * index : 4 * index + 6] = 2
    mask[-1, -4:] = 255
    return mask


MASKS = [mask_of(index) for index in range(len(SPLITS))]
IMAGES = [
    np.random.default_rng(i).integers(0, 256, (3, SIDE, SIDE), dtype=np.uint8) // 2
    + (30 * np.minimum(m, 3)).astype(np.uint8)
    for i, m in enumerate(MASKS)
]


def perfect(index: int) -> np.ndarray:
    """The masks under other names: sky 2, sea 0, sun 1; ignored pixels get a cluster as well."""
    return np.array([2, 0, 1])[np.minimum(MASKS[index], 2)].astype(np.int64)


class Project:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        rows = [
            ImageRow(f"{split}/{i}.png", split, f"{i}.png", SIDE, SIDE, str(i), "ok") for i, split in enumerate(SPLITS)
        ]
        rows.insert(3, ImageRow("train/bad.png", "train", "bad.png", 0, 0, "", "truncated"))
        self.table = ImageTable(rows, Frame(SIDE, "center"), 10**6, 1)
        self.masks = list(MASKS)

    def truth_table(self, text: str | None, splits: tuple[str, ...] = ("train", "val")) -> TruthTable:
        rows = []
        for row, mask in zip(self.table.select(None), self.masks, strict=True):
            path = self.folder / f"mask-{row.image_id.replace('/', '-')}"
            Image.fromarray(mask).save(path)
            if row.split in splits:
                rows.append(TruthRow(row.image_id, row.split, str(path), hashlib.sha256(path.read_bytes()).hexdigest()))
        return TruthTable(rows, text)

    def evaluate(
        self,
        labels: Callable[[int], np.ndarray] = perfect,
        k: int = 3,
        splits: tuple[str, ...] = ("train", "val"),
        text: str | None = json.dumps(CLASSES),
        draws: Callable[[int], list[np.ndarray]] = lambda index: [],
        variants: dict[str, Callable[[int], np.ndarray]] | None = None,
        **changes,
    ) -> SimpleNamespace:
        params = PARAMS.model_copy(update=changes)
        truth = open_truth(self.table, self.truth_table(text, splits), params.split, params.unknown_ids)
        drawn, scored = drawn_images(self.table, truth, params), scored_images(self.table, truth)
        with create_artifact(self.folder / "out") as writer:
            metrics = evaluate_segmenter(
                (
                    (
                        i,
                        IMAGES[i],
                        labels(i),
                        draws(i) if i in drawn else [],
                        {name: make(i) for name, make in (variants or {}).items()} if i in scored else {},
                    )
                    for i in range(len(SPLITS))
                ),
                table=self.table,
                truth=truth,
                k=k,
                params=params,
                out=writer.path,
                rows=writer.rows,
                frame=lambda index: IMAGES[index],
                log=logging.getLogger("fs4.test"),
            )
        artifact = open_artifact(self.folder / "out")
        assert artifact.json("metrics.json") == metrics
        assert "NaN" not in json.dumps(metrics)
        return SimpleNamespace(metrics=metrics, artifact=artifact, protocol=artifact.json("protocol.json"))


@pytest.fixture
def project(tmp_path) -> Project:
    return Project(tmp_path)


def test_perfect_labels_score_100_under_any_names(project):
    result = project.evaluate()
    metrics = result.metrics
    for section in ("all", "things", "stuff"):
        assert set(metrics[section].values()) == {100.0}
    assert metrics["majority"] == {"miou": 100.0, "pixel_accuracy": 100.0}
    assert metrics["per_class"] == {"sky": 100.0, "sea": 100.0, "sun": 100.0}
    assert metrics["protocol"] == {
        "classes_counted": 3,
        "images": 4,
        "pixels": 4 * (SIDE * SIDE - 4),
        "resolution": SIDE,
    }
    assert (metrics["partition"]["ari"], metrics["bootstrap"]["miou_low"]) == (1.0, 100.0)
    assert metrics["bootstrap"]["images"] == 4
    assert "draws" not in metrics
    assert "draws.json" not in result.artifact.manifest["files"]
    assert set(metrics["floors"]) == {"majority_class", "random", "colour_position_kmeans"}
    assert all(floor["miou"] < 100 for floor in metrics["floors"].values())
    assert result.protocol["split"] == result.protocol["matched_on"] == "val"
    assert result.artifact.json("confusion.json")["class_of_cluster"] == [1, 2, 0]
    shares = {entry["class"]: entry["share"] for entry in result.artifact.json("clusters.json")}
    assert set(shares) == {"sky", "sea", "sun"}
    assert sum(shares.values()) == pytest.approx(100.0)


def test_label_maps_and_gallery_are_complete(project):
    result = project.evaluate()
    maps = [(shown.image_id, shown.split, shown.decode()) for shown in iterate_label_maps(result.artifact)]
    assert [image_id for image_id, _, _ in maps] == [row.image_id for row in project.table.select(None)]
    for index, (_, split, labels) in enumerate(maps):
        assert split == SPLITS[index]
        np.testing.assert_array_equal(labels, perfect(index))
    assert result.artifact.manifest["files"]["label_maps/part-00000.parquet"]["rows"] == 7
    listing = result.artifact.json("gallery/gallery.json")
    assert [entry["image_id"] for entry in listing] == ["val/3.png", "val/5.png", "val/6.png"]
    for entry in listing:
        assert all(
            result.artifact.file(f"gallery/{entry[kind]}") for kind in ("image", "truth", "prediction", "overlay")
        )


def test_further_draws_are_scored_beside_the_headline(project):
    def draws(index: int) -> list[np.ndarray]:
        renamed = (perfect(index) + 1) % 3
        half = perfect(index)
        half[:, : SIDE // 2] = 0
        return [renamed, half]

    before = project.evaluate()
    result = project.evaluate(draws=draws)
    found = result.metrics.pop("draws")
    assert result.metrics == before.metrics
    listing = result.artifact.json("draws.json")
    assert listing[0]["all"]["miou"] == 100.0
    mious = [entry["all"]["miou"] for entry in listing]
    assert mious[1] < 100
    assert found["count"] == 2
    assert found["miou_mean"] == pytest.approx(sum(mious) / 2)
    assert found["miou_sd"] == pytest.approx((mious[0] - mious[1]) / 2**0.5)
    assert {"things_miou_mean", "stuff_miou_sd", "pixel_accuracy_mean"} <= set(found)


def test_draws_are_matched_where_the_headline_is(project):
    def swapped_in_val(index: int) -> list[np.ndarray]:
        return [perfect(index) if SPLITS[index] == "train" else np.array([1, 2, 0])[perfect(index)]]

    assert project.evaluate(draws=swapped_in_val).metrics["draws"]["miou_mean"] == 100.0
    assert project.evaluate(draws=swapped_in_val, match_on="train").metrics["draws"]["miou_mean"] == 0.0


def test_surplus_clusters_count_as_errors_and_stay_unmatched(project):
    def split_sea(index: int) -> np.ndarray:
        labels = perfect(index)
        labels[-8:, :16] = 3
        return labels

    result = project.evaluate(split_sea, k=5)
    metrics = result.metrics
    wrong = 8 * 16
    sea = SIDE * SIDE // 2 - 4
    assert metrics["per_class"]["sea"] == pytest.approx(100 * (sea - wrong) / sea)
    assert metrics["per_class"]["sky"] == 100.0
    assert metrics["all"]["pixel_accuracy"] == pytest.approx(100 * (1 - wrong / (SIDE * SIDE - 4)))
    assert metrics["majority"]["pixel_accuracy"] == 100.0
    assert (metrics["clusters"]["k"], metrics["clusters"]["used"]) == (5, 4)
    matrix = result.artifact.json("confusion.json")
    assert np.array(matrix["matrix"]).shape == (3, 5)
    assert matrix["class_of_cluster"] == [1, 2, 0, -1, -1]
    assert [entry["class"] for entry in result.artifact.json("clusters.json")] == ["sea", "sun", "sky", None, None]


def test_missing_clusters_leave_classes_unmatched(project):
    result = project.evaluate(lambda index: np.minimum(perfect(index), 1), k=2)
    assert sorted(result.artifact.json("confusion.json")["class_of_cluster"]) == [0, 1]
    assert result.metrics["per_class"]["sun"] == 0.0
    assert result.metrics["protocol"]["classes_counted"] == 3


def test_without_masks_only_label_free_figures_are_written(project):
    result = project.evaluate(splits=())
    assert set(result.metrics) == {"data", "clusters"}
    assert set(result.protocol) == {"labels", "frame"}
    names = set(result.artifact.manifest["files"])
    assert "confusion.json" not in names
    assert not any(name.endswith("truth.png") for name in names)
    assert all(entry["class"] is None for entry in result.artifact.json("clusters.json"))
    assert len(result.artifact.json("gallery/gallery.json")) == 3


def test_matching_on_train_is_applied_to_val(project):
    def swapped_in_val(index: int) -> np.ndarray:
        return perfect(index) if SPLITS[index] == "train" else np.array([1, 2, 0])[perfect(index)]

    assert project.evaluate(swapped_in_val).metrics["all"]["miou"] == 100.0
    result = project.evaluate(swapped_in_val, match_on="train")
    assert result.protocol["matched_on"] == "train"
    assert result.protocol["split"] == "val"
    assert result.metrics["all"]["miou"] == 0.0
    with pytest.raises(ParamsError, match=r"evaluate\.match_on: 'train' needs masks in split train, which has none"):
        project.evaluate(splits=("val",), match_on="train")


@pytest.mark.parametrize("text", [json.dumps(CLASSES), None])
def test_nothing_but_ignored_pixels_is_nothing_to_evaluate(project, text):
    project.masks = [np.full_like(mask, 255) for mask in MASKS]
    with pytest.raises(InputError, match="nothing to evaluate"):
        project.evaluate(text=text)
    assert not (project.folder / "out").exists()


def test_unknown_ids_are_an_error_or_ignored(project):
    project.masks[4] = MASKS[4].copy()
    project.masks[4][0, :7] = 9
    with pytest.raises(InputError, match=r"mask-val-4\.png: ids 9 are not in classes\.json"):
        project.evaluate(unknown_ids="error")
    result = project.evaluate(unknown_ids="ignore")
    assert result.metrics["protocol"]["pixels"] == 4 * (SIDE * SIDE - 4) - 7
    assert result.metrics["all"]["miou"] == 100.0


def test_a_mask_that_changed_since_prepare_is_refused(project):
    def change_one(index: int) -> np.ndarray:
        Image.fromarray(MASKS[0]).save(project.folder / "mask-val-5.png")
        return perfect(index)

    with pytest.raises(InputError, match=r"mask-val-5\.png: has changed since prepare"):
        project.evaluate(change_one)
    assert not (project.folder / "out").exists()


def test_classes_that_do_not_occur_are_named_and_have_no_figure(project):
    project.masks = [np.where(mask == 2, 0, mask).astype(np.uint8) for mask in MASKS]
    result = project.evaluate(lambda index: np.where(project.masks[index] == 1, 1, 0).astype(np.int64), k=2)
    assert result.protocol["absent_classes"] == "sun"
    assert set(result.metrics["per_class"]) == {"sky", "sea"}
    assert "things" not in result.metrics
    assert result.metrics["all"]["miou_present"] == 100.0


def test_many_clusters_have_16_bit_maps(project):
    def wide(index: int) -> np.ndarray:
        return perfect(index) + 500

    result = project.evaluate(wide, k=600)
    assert result.metrics["all"]["miou"] == 100.0
    assert next(iterate_label_maps(result.artifact)).decode().min() == 500
    assert result.metrics["clusters"]["k"] == 600


def test_the_result_is_the_same_bytes_each_time(project):
    first = project.evaluate().artifact.manifest["files"]
    assert project.evaluate().artifact.manifest["files"] == first


def test_leaked_images_are_counted(project):
    leaked = replace(project.table.rows[4], sha256="0")
    project.table = replace(project.table, rows=[*project.table.rows[:4], leaked, *project.table.rows[5:]])
    assert project.evaluate().metrics["data"] == {"leaked": 1}
