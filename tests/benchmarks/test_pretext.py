from benchmarks.pretext import METHODS, WORK, format_table, plan_epochs
from pipeline.pretext.methods import METHODS as REGISTRY


def test_the_work_of_every_method_is_known():
    assert set(WORK) == set(REGISTRY)
    assert METHODS[0] == "none"


def test_equal_work_gives_expensive_methods_fewer_epochs():
    assert plan_epochs("dense_clusters", 25, "work") == 25
    assert plan_epochs("moco", 25, "work") == 19
    assert plan_epochs("rotation", 25, "work") == 10
    assert plan_epochs("rotation", 25, "epochs") == 25
    assert plan_epochs("rotation", 1, "work") == 1


def test_the_table_has_the_best_features_first_and_gaps_where_nothing_was_measured():
    score = {"miou_sd": 0.4, "pixel_accuracy_mean": 50.0}
    plain = {"seconds": 12.3, "linear": {"miou": 30.04}}
    worse = plain | {"method": "none", "label_free": {"epochs": 0}, "kmeans": score | {"miou_mean": 10.0}}
    told = {"epochs": 5, "image_match": 0.5, "place_match": 0.25, "effective_rank": 7.77}
    better = plain | {"method": "moco", "label_free": told, "kmeans": score | {"miou_mean": 20.0}}
    lines = format_table([worse, better | {"fs4": score | {"miou_mean": 21.0}}]).splitlines()
    assert lines[2] == "| `moco` | 5 | 12 | 0.50 | 0.25 | 7.8 | 20.0 ± 0.4 | 30.0 | 21.0 ± 0.4 |"
    assert lines[3] == "| `none` | 0 | 12 | – | – | – | 10.0 ± 0.4 | 30.0 | – |"
