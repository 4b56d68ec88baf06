import numpy as np
import pytest

from pipeline.report.scores import class_rows, judge, main_class_of_clusters, order_confusion, score_rows

# Three classes, four clusters; cluster 2 is unmatched, class 1 has no pixels.
CONFUSION = {
    "classes": ["sky", "road", "car"],
    "kinds": ["stuff", "stuff", "thing"],
    "matrix": [[0, 60, 20, 0], [0, 0, 0, 0], [10, 5, 0, 5]],
    "class_of_cluster": [2, 0, -1, 1],
}


def metrics(miou, **floors):
    figures = {"miou": miou, "pixel_accuracy": 1.0}
    return {"all": figures, "floors": {name: {"miou": value} for name, value in floors.items()}}


@pytest.mark.parametrize(
    ("miou", "beats", "words"),
    [
        (30.0, True, "10.0 points above the best floor"),
        (15.0, False, "5.0 points below the best floor"),
        (20.0, False, "equal to the best floor"),
    ],
)
def test_verdict_compares_with_the_best_floor(miou, beats, words):
    verdict = judge(metrics(miou, random=3.0, colour_position_kmeans=20.0, majority_class=5.0))
    assert verdict.beats_floors is beats
    assert words in verdict.sentence
    assert verdict.best_floor == 20.0
    assert verdict.best_floor_name == "k-means on colour and position"


def test_rows_go_from_run_to_floors_and_unknown_floors_keep_their_name():
    rows = score_rows({**metrics(30.0, random=3.0, new_floor=9.0), "stuff": {}, "majority": {"miou": 1.0}})
    assert [row.kind for row in rows] == ["run", "run", "bound", "floor", "floor"]
    assert [row.name for row in rows[3:]] == ["Floor: new floor", "Floor: random clusters"]


def test_further_final_clusterings_have_rows_of_their_own():
    draws = {"count": 5, "miou_mean": 28.0, "miou_sd": 1.0, "pixel_accuracy_mean": 50.0, "pixel_accuracy_sd": 2.0}
    draws |= {"stuff_miou_mean": 31.0, "stuff_miou_sd": 3.0}
    rows = [row for row in score_rows({**metrics(30.0, random=3.0), "draws": draws}) if row.kind == "draws"]
    assert [row.name for row in rows] == ["Any clustering: all classes", "Any clustering: stuff"]
    assert rows[0].figures == {"miou": 28.0, "miou_sd": 1.0, "pixel_accuracy": 50.0, "pixel_accuracy_sd": 2.0}
    assert rows[1].figures == {"miou": 31.0, "miou_sd": 3.0}
    assert "over 5 final clusterings" in rows[0].note


def test_refined_scores_have_rows_of_their_own_with_their_parameters():
    sections = {"all": {"miou": 31.0}, "stuff": {"miou": 40.0}}
    refined = {**sections, "changed": 7.25, "parameters": {"iterations": 5, "place_sigma": 2.5}}
    before = score_rows(metrics(30.0, random=3.0))
    rows = score_rows({**metrics(30.0, random=3.0), "refined": refined})
    found = [row for row in rows if row.kind == "refined"]
    assert [row for row in rows if row.kind != "refined"] == before
    assert [(row.name, row.figures["miou"]) for row in found] == [
        ("Refined: all classes", 31.0),
        ("Refined: stuff", 40.0),
    ]
    assert "7.2\u00a0% of pixels changed; iterations 5, place sigma 2.5" in found[0].note


def test_flip_averaged_scores_have_rows_of_their_own():
    refined = {"all": {"miou": 31.0}, "changed": 7.0, "parameters": {}}
    averaged = {"all": {"miou": 30.5}, "things": {"miou": 20.0}, "changed": 2.25}
    rows = score_rows({**metrics(30.0, random=3.0), "refined": refined, "flip_averaged": averaged})
    assert [row.kind for row in rows] == ["run", "refined", "flip_averaged", "flip_averaged", "floor"]
    assert [(row.name, row.figures["miou"]) for row in rows[2:4]] == [
        ("Flip-averaged: all classes", 30.5),
        ("Flip-averaged: things", 20.0),
    ]
    assert rows[2].note.endswith("image and mirror image, same match; 2.2\u00a0% of pixels changed")


def test_the_interval_over_images_stands_with_the_headline_only():
    interval = {"bootstrap": {"miou_low": 27.44, "miou_high": 33.06, "images": 50}}
    rows = score_rows({**metrics(30.0, random=3.0), "stuff": {}, **interval})
    assert rows[0].note == "Hungarian, one to one; 95\u00a0% interval over images 27.4–33.1 in mIoU"
    assert rows[1].note == "Hungarian, one to one"


def test_boundary_f1_stands_with_the_class_it_is_of():
    rows = class_rows(CONFUSION, {"sky": 40.0}, {"sky": 12.5})
    assert [row.boundary for row in rows] == [12.5, None, None]
    assert class_rows(CONFUSION, {"sky": 40.0})[0].boundary is None


def test_confusion_columns_are_in_class_order():
    ordered = order_confusion(CONFUSION)
    expected = np.array([[75.0, 0, 0, 25], [0, 0, 0, 0], [25, 25, 50, 0]])
    assert np.allclose(ordered.shares, expected)
    assert ordered.clusters == [1, 3, 0]
    assert ordered.unmatched == [2]


def test_class_rows_have_recall_and_share():
    sky, road, car = class_rows(CONFUSION, {"sky": 66.0, "car": 40.0})
    assert (sky.cluster, sky.share, sky.iou, sky.recall, sky.kind) == (1, 80.0, 66.0, 75.0, "stuff")
    assert (road.cluster, road.share, road.iou, road.recall) == (3, 0.0, None, None)
    assert car.recall == 50.0


def test_classes_without_cluster_or_kind():
    fewer = {**CONFUSION, "kinds": None, "matrix": [[4], [2], [2]], "class_of_cluster": [0]}
    assert [row.cluster for row in class_rows(fewer, {})] == [0, None, None]
    assert {row.kind for row in class_rows(fewer, {})} == {None}


def test_main_class_is_that_of_most_pixels():
    main = main_class_of_clusters({**CONFUSION, "matrix": [[0, 60, 20, 0], [0, 0, 0, 0], [10, 20, 0, 0]]})
    assert main == [("car", 100.0), ("sky", 75.0), ("sky", 100.0), None]
