import math

import numpy as np
import pytest

from pipeline.data.classes import ClassList
from pipeline.errors import InputError
from pipeline.evaluation.bootstrap import ImageCounts
from pipeline.evaluation.figures import check_finite, confusion_file, rule_notes, split_figures
from pipeline.evaluation.matching import hungarian, majority

CLASSES = ClassList(("sky", "sea", "sun"), ("stuff", "stuff", "thing"), 255, note="drawn")
MATRICES = [np.array([[9, 1, 0], [0, 8, 2], [1, 0, 5]]), np.array([[2, 6, 0], [1, 7, 0], [0, 4, 0]])]


def figures_of(matrices, classes=CLASSES, seed=0):
    images = ImageCounts(3)
    for number, matrix in enumerate(matrices):
        images.add(matrix, image=str(number))
    total = images.total(range(3))
    return split_figures(
        images, range(3), assignment=hungarian(total), many_to_one=majority(total), classes=classes, seed=seed
    )


def test_intervals_and_figures_without_matching_stand_beside_the_headline():
    figures = figures_of(MATRICES)

    assert 0 < figures["partition"]["ari"] < 1
    interval = figures["bootstrap"]
    assert interval["pixel_accuracy_low"] == pytest.approx(100 * 9 / 20)  # the second image twice
    assert interval["pixel_accuracy_high"] == pytest.approx(100 * 22 / 26)
    assert interval["pixel_accuracy_low"] < figures["all"]["pixel_accuracy"] < interval["pixel_accuracy_high"]
    assert figures["restricted"]["things"]["pixel_accuracy"] == 100.0
    assert figures["restricted"]["stuff"]["pixel_accuracy"] > figures["stuff"]["pixel_accuracy"]
    assert figures["protocol"] == {"classes_counted": 3, "images": 2, "pixels": 46}
    check_finite(figures)


def test_what_does_not_apply_is_left_out():
    figures = figures_of(MATRICES[:1], ClassList(CLASSES.names, None, 255))

    assert not {"restricted", "bootstrap", "things", "stuff"} & set(figures)


def test_without_a_labelled_pixel_there_is_nothing_to_evaluate():
    with pytest.raises(InputError, match="every pixel of the 2 masks has the ignored id 255"):
        figures_of([np.zeros((3, 3), int)] * 2)


def test_notes_and_the_stored_matrix_tell_match_and_absent_classes():
    matrix = np.array([[5, 0], [0, 0], [0, 4]])
    assignment = hungarian(matrix)

    notes = rule_notes(matrix, assignment, CLASSES, {"bootstrap": {"resamples": 1000}})

    assert notes["match_rule"].startswith("hungarian: one to one")
    assert (notes["absent_classes"], notes["classes_note"]) == ("sea", "drawn")
    assert "1000 resamples" in notes["bootstrap"]
    assert notes == {**rule_notes(matrix, assignment, CLASSES, {}), "bootstrap": notes["bootstrap"]}
    stored = confusion_file(matrix, assignment, CLASSES)
    assert stored["matrix"] == matrix.tolist()
    assert stored["class_of_cluster"] == [0, 2]
    assert stored["kinds"] == ["stuff", "stuff", "thing"]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_metric_that_is_no_number_is_named(value):
    with pytest.raises(InputError, match=r"metric all\.miou is (nan|inf)"):
        check_finite({"all": {"miou": value}})


def test_tiles_are_counted_beside_their_images():
    images = ImageCounts(3)
    for matrix, image in zip(MATRICES * 2, "aabb", strict=True):
        images.add(matrix, image=image)
    total = images.total(range(3))
    options = {"assignment": hungarian(total), "many_to_one": majority(total), "classes": CLASSES, "seed": 0}
    found = split_figures(images, range(3), **options)
    assert (found["protocol"]["images"], found["protocol"]["tiles"], found["bootstrap"]["images"]) == (2, 4, 2)
    assert "tiles" not in figures_of(MATRICES)["protocol"]
