import json

import pytest

from benchmarks import pretext
from benchmarks.pretext import METHODS, WORK, format_table, format_tables, is_measured, plan_epochs
from pipeline.errors import ParamsError
from pipeline.pretext.methods import METHODS as REGISTRY


def test_the_work_of_every_method_is_known():
    assert set(WORK) == set(REGISTRY)
    assert METHODS[0] == "none"


def test_equal_work_gives_expensive_methods_fewer_epochs():
    assert plan_epochs("dense_clusters", 25, "work") == 25
    assert plan_epochs("moco", 25, "work") == 17
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
    assert lines[2] == "| `moco` | 5 | 0.50 | 0.25 | 7.8 | 20.0 ± 0.4 | 30.0 | 21.0 ± 0.4 |"
    assert lines[3] == "| `none` | 0 | – | – | – | 10.0 ± 0.4 | 30.0 | – |"


def test_label_free_figures_are_compared_with_the_scores_by_rank(tmp_path):
    for number in range(8):
        told = {
            "epochs": 1,
            "image_match": number / 10,
            "place_match": 0.9 - number / 10,
            "effective_rank": 5.0 + number**2,
        }
        score = {"miou_mean": 2.0**number, "miou_sd": 0.0}
        record = {
            "method": f"m{number}",
            "seconds": 1,
            "label_free": told,
            "kmeans": score,
            "linear": {"miou": -number},
        }
        record |= {"data": "toy", "seed": 0, "equal": "work"}
        (tmp_path / f"{number}.json").write_text(json.dumps(record))
        line = format_tables(tmp_path).splitlines()[-1]
        assert line.startswith("Rank") == (number == 7)
    assert "over 8 rows: image match 1.00 and -1.00, place match -1.00 and 1.00, effective rank 1.00 and -1.00." in line


def test_a_comparison_grows_over_several_sittings(tmp_path, monkeypatch):
    monkeypatch.setattr(pretext, "RECORDS", tmp_path / "records")
    monkeypatch.setattr(pretext, "PAGE", tmp_path / "pretext.md")
    pretext.PAGE.write_text(f"before\n{pretext.START}\nold\n{pretext.END}\nafter\n")
    score = {"miou_mean": 20.0, "miou_sd": 0.4, "pixel_accuracy_mean": 50.0}
    measured, pages = [], []

    def measure(clone, params, method, frozen, full):
        measured.append((method, params["pretrain"]["backbone"], full is not None))
        pages.append(pretext.PAGE.read_text())
        told = {"epochs": params["pretrain"]["epochs"]}
        record = {"method": method, "pretrain": params["pretrain"], "seconds": 1, "label_free": told}
        return record | {"kmeans": score, "linear": {"miou": 1.0}} | ({"fs4": score} if full else {})

    monkeypatch.setattr(pretext, "measure", measure)
    monkeypatch.setattr(pretext, "run_stages", lambda *_: 0.0)
    monkeypatch.setattr(pretext.subprocess, "run", lambda *_, **__: None)
    start = {"data": "", "preset": "", "epochs": 12, "equal": "work", "published": False, "seed": 0, "force": False}
    pretext.main("toy", methods="moco mae", full=False, **start)
    pretext.main("toy", methods="moco none", full=False, **start)
    pretext.main("other", methods="moco", full=True, **start)
    pretext.main("toy", methods="moco", full=True, **start)
    pretext.main("toy", methods="moco", full=True, **start)
    assert measured == [
        ("moco", "resnet18", False),
        ("mae", "vit_small_patch16", False),
        ("none", "resnet18", False),
        ("moco", "resnet18", True),
        ("moco", "resnet18", True),
    ]
    assert "moco" in pages[1]
    page = pretext.PAGE.read_text()
    assert page.startswith("before\n<!--")
    assert page.endswith("-->\nafter\n")
    assert "old" not in page
    heads = [line for line in page.splitlines() if line.startswith("`")]
    assert heads == ["`other`, seed 0, equal work:", "`toy`, seed 0, equal work:"]
    assert page.count("| `moco` | 8 | – | – | – | 20.0 ± 0.4 | 1.0 | 20.0 ± 0.4 |") == 2
    with pytest.raises(ParamsError, match=r"toy-moco\.json: of 8 epochs \(equal work\), not 27"):
        pretext.main("toy", methods="moco", full=True, **start | {"epochs": 40})


def test_a_record_without_the_whole_method_does_not_serve_where_it_is_asked_for(tmp_path):
    path = tmp_path / "a.json"
    assert not is_measured(path, 5, "work", full=False)
    path.write_text(json.dumps({"pretrain": {"epochs": 5}, "equal": "work"}))
    assert is_measured(path, 5, "work", full=False)
    assert not is_measured(path, 5, "work", full=True)
