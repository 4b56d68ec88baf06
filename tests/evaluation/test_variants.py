import numpy as np
import pytest

from pipeline.data.classes import ClassList
from pipeline.evaluation.confusion import confusion_matrix
from pipeline.evaluation.label_maps import iterate_label_maps
from pipeline.evaluation.matching import Assignment
from pipeline.evaluation.variants import VariantCounts, describe_refinement, describe_variants, score_variants
from tests.evaluation.test_evaluate import MASKS, PARAMS, SIDE, SPLITS, Project, perfect

REFINE = PARAMS.refine.model_copy(update={"iterations": 5})


def test_refined_maps_are_a_row_beside_the_headline_under_its_match(tmp_path):
    project = Project(tmp_path)

    def rough(index: int) -> np.ndarray:
        labels = perfect(index)
        labels[::4, ::4] = 0
        return labels

    plain = project.evaluate(rough)
    result = project.evaluate(rough, variants={"refined": perfect}, refine=REFINE)
    refined = result.metrics.pop("refined")
    assert result.metrics == plain.metrics
    assert refined["all"]["miou"] == refined["things"]["miou"] == refined["per_class"]["sun"] == 100.0
    changed = [np.count_nonzero(rough(i) != perfect(i)) for i, split in enumerate(SPLITS) if split == "val"]
    assert refined["changed"] == pytest.approx(100 * sum(changed) / (4 * SIDE * SIDE))
    assert refined["parameters"] == REFINE.model_dump()
    assert result.protocol.pop("refined").startswith("local CRF, 5 mean-field iterations, windows of 9 x 9 pixels")
    assert result.protocol == plain.protocol
    for before, after in zip(iterate_label_maps(plain.artifact), iterate_label_maps(result.artifact), strict=True):
        assert before == after


def test_refined_maps_are_not_matched_anew(tmp_path):
    project = Project(tmp_path)
    other = {"refined": lambda index: (perfect(index) + 1) % 3}
    refined = project.evaluate(variants=other, refine=REFINE).metrics["refined"]
    assert refined["all"]["miou"] == 0.0
    assert refined["changed"] == 100.0


def test_flip_averaged_maps_are_a_row_of_their_own_beside_the_headline(tmp_path):
    project = Project(tmp_path)

    def shifted(index: int) -> np.ndarray:
        return np.roll(perfect(index), 1, axis=1)

    plain = project.evaluate()
    result = project.evaluate(variants={"flip_averaged": shifted}, flip=True)
    found = result.metrics.pop("flip_averaged")
    assert result.metrics == plain.metrics
    assert set(found) == {"all", "things", "stuff", "per_class", "changed"}
    matrix = sum(
        confusion_matrix(MASKS[i], shifted(i), classes=3, k=3, ignore_index=255)[:, [2, 0, 1]]
        for i, split in enumerate(SPLITS)
        if split == "val"
    )
    assert found["all"]["pixel_accuracy"] == pytest.approx(100 * np.trace(matrix) / matrix.sum())
    changed = [np.mean(shifted(i) != perfect(i)) for i, split in enumerate(SPLITS) if split == "val"]
    assert found["changed"] == pytest.approx(100 * np.mean(changed))
    assert result.protocol.pop("flip_averaged").startswith("cluster scores averaged over the image and its mirror")
    assert result.protocol == plain.protocol
    for before, after in zip(iterate_label_maps(plain.artifact), iterate_label_maps(result.artifact), strict=True):
        assert before == after


def test_each_variant_is_scored_on_its_own():
    counts = {"refined": VariantCounts(np.eye(2, dtype=np.int64)), "flip_averaged": VariantCounts(np.ones((2, 2), int))}
    for each in counts.values():
        each.add(np.zeros((2, 2), np.int64), np.array([[True, False]]))
    both = PARAMS.model_copy(update={"refine": REFINE, "flip": True})
    match, classes = Assignment("hungarian", (0, 1)), ClassList(("sky", "sea"), None, 255)
    groups = score_variants(counts, match, classes, both)
    assert [(name, group["all"]["miou"]) for name, group in groups.items()] == [
        ("refined", 100.0),
        ("flip_averaged", pytest.approx(100 / 3)),
    ]
    assert "parameters" not in groups["flip_averaged"]
    assert describe_variants(both).keys() == groups.keys()
    assert score_variants(counts, match, classes, PARAMS) == describe_variants(PARAMS) == {}


def test_counts_of_images_are_summed_before_they_are_divided():
    counts = VariantCounts(np.zeros((2, 2), np.int64))
    counts.add(np.array([[3, 1], [0, 0]]), np.array([[True, False], [False, False]]))
    counts.add(np.array([[0, 0], [0, 8]]), np.zeros((2, 4), bool))
    figures = counts.figures(Assignment("hungarian", (0, 1)), ClassList(("sky", "sea"), None, 255))
    assert figures["per_class"] == {"sky": 75.0, "sea": pytest.approx(100 * 8 / 9)}
    assert figures["all"]["pixel_accuracy"] == pytest.approx(100 * 11 / 12)
    assert figures["changed"] == pytest.approx(100 / 12)


def test_all_parameters_are_told():
    text = describe_refinement(REFINE)
    for value in (
        "5 mean-field",
        "9 x 9",
        "2 apart",
        "weights 4 (place 5 px, colour 15",
        "1 (place)",
        "temperature 0.1",
    ):
        assert value in text
