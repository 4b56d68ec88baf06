import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ParamsError
from pipeline.params import Params, known_keys, load_params, parse_params
from pipeline.params.presets import flatten_keys, merge_overrides
from pipeline.yaml_reader import read_yaml

ROOT = Path(__file__).parents[1]
RAW: dict[str, Any] = read_yaml(ROOT / "params.yaml")
# whatever a preset that was run before has left there
RAW["extract"]["levels"] = [1, 2, 4, 8]
RAW["data"] |= {"resize": 128, "crop_size": 0}


def altered(key: str, value: Any) -> dict[str, Any]:
    raw = copy.deepcopy(RAW)
    *groups, last = key.split(".")
    inner = raw
    for group in groups:
        inner = inner[group]
    inner[last] = value
    return raw


def refuse(raw: Any) -> str:
    with pytest.raises(ParamsError) as caught:
        parse_params(raw)
    assert caught.value.exit_code == 2
    assert str(caught.value).startswith("params.yaml: ")
    return str(caught.value)


def test_the_committed_files_are_valid():
    params = load_params(ROOT / "params.yaml")
    assert params.train.cae.radius == RAW["train"]["cae"]["radius"]
    presets = sorted((ROOT / "presets").glob("*.yaml"))
    assert presets
    for preset in presets:
        parse_params(merge_overrides(RAW, read_yaml(preset)), name=preset.name)


def test_the_file_holds_every_key_and_the_keys_are_known():
    written = {key for key, _ in flatten_keys(RAW)}
    known = known_keys()
    groups = {key for key in known if any(other.startswith(f"{key}.") for other in known)}
    assert written == set(known) - groups
    assert "train.cae" in groups
    assert known.index("data.source") < known.index("train.k") < known.index("run.device")


def test_parameters_are_frozen():
    params = parse_params(RAW)
    with pytest.raises(ValueError, match="frozen"):
        params.train.k = 3


@pytest.mark.parametrize(
    ("wrong", "nearest"),
    [
        ("pgg.restart", "pgg.restarts"),
        ("train.epoch", "train.epochs"),
        ("train.cae.gama", "train.cae.gamma"),
        ("train.learning_rat", "train.learning_rate"),
        ("extrct", "extract"),
    ],
)
def test_an_unknown_key_is_named_in_full_with_its_nearest(wrong, nearest):
    message = refuse(altered(wrong, 5))
    found = re.search(rf"{re.escape(wrong)}: unknown key \(value 5\); the nearest valid key is (\S+)$", message)
    assert found, message
    assert found[1].startswith(nearest)
    assert found[1] in known_keys()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("pgg.k", "27"),
        ("pgg.k", True),
        ("pgg.k", 1),
        ("pgg.k", []),
        ("pgg.k", None),
        ("train.k", "27"),
        ("train.k", True),
        ("train.k", 9.0),
        ("train.k", 1),
        ("train.k", 2**15),
        ("train.learning_rate", "1e-5"),
        ("train.learning_rate", False),
        ("train.learning_rate", float("nan")),
        ("train.learning_rate", float("inf")),
        ("train.learning_rate", -1e-5),
        ("train.views.flip", 1),
        ("train.cae", None),
        ("train.trained", "res5"),
        ("train.assignment.method", "sinkhorn"),
        ("train.assignment.teacher_momentum", 1.0),
        ("train.clustering.prototype_momentum", 1.0),
        ("train.clustering.final_draws", 0),
        ("train.clustering.merge", "average"),
        ("train.cae.gamma", float("nan")),
        ("train.cae.appearance", "lab"),
        ("train.cae.neighbourhood", "local"),
        ("train.cae.scales", []),
        ("train.cae.top", 0),
        ("train.cae.mix", 0.5),
        ("train.cae.exclude_self", 1),
        ("data.resize", 31),
        ("data.resize", 0),
        ("data.crop_size", 33),
        ("data.crop_size", -32),
        ("data.crop", "centre"),
        ("data.seed", 2**31),
        ("data.max_bad_fraction", 1.5),
        ("data.scenes.height", 16),
        ("pretrain.batch_size", 1),
        ("pretrain.view_size", 33),
        ("extract.levels", []),
        ("train.pgg.use", []),
        ("train.pgg.use", "prior"),
        ("train.pgg.prior_strength", 0.0),
        ("train.rounds", 0),
        ("optional.probe", "backbone"),
        ("optional.probe", None),
        ("probe.kinds", []),
        ("finetune.fractions", []),
        ("finetune.batch_size", 1),
        ("run.device", "gpu"),
        ("run.device", "cuda:"),
    ],
)
def test_wrong_types_and_ranges_name_key_and_value(key, value):
    message = refuse(altered(key, value))
    assert f"{key}: {value!r} is not accepted: " in message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("pgg.k", [5, 5, 5, 5]),
        ("train.learning_rate", 1),
        ("train.cae.gamma", 0),
        ("train.cae.scales", [1, 2, 4]),
        ("train.k", 2**15 - 1),
        ("run.device", "cuda:1"),
        ("run.device", "mps"),
        ("extract.levels", [3]),
    ],
)
def test_the_limits_themselves_are_accepted(key, value):
    assert isinstance(parse_params(altered(key, value)), Params)


@pytest.mark.parametrize("spelling", ["1e-05", "1E-5", "1e-5", ".00001", "0.00001", "+1e-5", "1.e-5"])
def test_a_float_may_be_spelled_in_any_way(tmp_path, spelling):
    file = tmp_path / "params.yaml"
    text = (ROOT / "params.yaml").read_text("utf-8")
    changed = text.replace("  learning_rate: 2.0e-5\n", f"  learning_rate: {spelling}\n")
    assert changed != text
    file.write_text(changed, "utf-8")
    assert load_params(file).train.learning_rate == 1e-5


def test_all_problems_come_in_one_message():
    raw = altered("train.k", 1)
    raw["extract"]["levels"] = [0, "x"]
    raw["pgg"]["kk"] = 3
    del raw["report"]["title"]
    raw["run"]["threads"] = -1
    message = refuse(raw)
    assert message.startswith("params.yaml: 6 problems\n")
    lines = message.splitlines()[1:]
    starts = ["  extract.levels[0]: 0 ", "  extract.levels[1]: 'x' ", "  pgg.kk: unknown", "  train.k: 1 "]
    starts += ["  report.title: missing; restore it", "  run.threads: -1 "]
    assert len(lines) == 6
    for start in starts:
        assert sum(line.startswith(start) for line in lines) == 1, start


def test_a_misspelled_group_is_missing_and_unknown():
    raw = copy.deepcopy(RAW)
    raw["trian"] = raw.pop("train")
    message = refuse(raw)
    assert "train: missing" in message
    assert "trian: unknown key" in message
    assert message.endswith("the nearest valid key is train")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"extract.levels": [4, 2]}, "must ascend"),
        ({"extract.levels": [2, 2]}, "must ascend"),
        ({"extract.levels": [1, 2000]}, "2000 cells a side do not fit into a frame of short side 128"),
        ({"extract.levels": [1, 40], "data.crop_size": 32}, "40 cells a side do not fit into a frame of short side 32"),
        ({"data.resize": 100}, "data.resize: 100 is not a multiple of 32; the nearest is 96"),
        ({"data.resize": 100, "data.crop": "none"}, "data.resize: 100 is not a multiple of 32"),
        ({"data.crop": "none", "data.crop_size": 64}, "data.crop_size: 64 needs data.crop center, found none"),
        ({"data.crop_size": 160}, "data.crop_size: 160 is more than data.resize 128"),
        ({"pgg.k": [5, 5]}, "2 values for the 4 levels of extract.levels; give one number, or one per level"),
        ({"train.warmup_epochs": 100}, "is more than train.epochs"),
        ({"train.warmup_epochs": 1, "train.pgg.weight": 0.0}, "train.pgg.weight cannot be 0"),
        ({"train.one_view": True, "train.mse_weight": 0.5}, "train.mse_weight: 0.5 compares two views; set it to 0"),
        ({"train.clustering.fine_clusters": 3}, "fine_clusters: 3 is less than train.k 9; give more, or 0"),
        (
            {"train.one_view": True, "train.clustering.fine_clusters": 20, "train.clustering.merge": "view_confusion"},
            "train.clustering.merge: view_confusion compares two views; use ward",
        ),
        ({"train.cae.scales": [2, 1]}, "train.cae.scales: [2, 1] must ascend"),
        ({"train.cae.scales": [1, 2], "train.cae.neighbourhood": "nonlocal"}, "give [1] with neighbourhood nonlocal"),
        ({"train.cae.mix": "fixed", "train.cae.gamma": 1.5}, "train.cae.gamma: 1.5 is the context's share"),
        ({"train.warmup_epochs": 1, "train.pgg.use": ["strata"]}, "must have classification or contrast"),
        ({"train.warmup_epochs": 8, "train.epochs": 8, "train.pgg.use": ["contrast", "prior"]}, "shorten the warm-up"),
        ({"train.pgg.use": ["prior", "prior"]}, "names a use twice"),
        ({"train.pgg.levels": [4, 2]}, "train.pgg.levels: [4, 2] must ascend"),
        ({"train.pgg.levels": [2, 3]}, "3 is not in extract.levels [1, 2, 4, 8]"),
        ({"train.pgg.levels": [2, 4], "train.pgg.level_weights": [1.0]}, "1 values for the 2 levels in use"),
        ({"train.pgg.level_weights": [1.0]}, "1 values for the 4 levels in use"),
        (
            {"train.pgg.recluster_every": 2, "train.pgg.weight": 0.0, "train.pgg.use": ["classification"]},
            "makes pyramid labels that nothing uses",
        ),
        ({"train.pgg.recluster_every": 5, "train.epochs": 5}, "never comes in train.epochs 5"),
        (
            {"train.rounds": 2, "train.pgg.weight": 0.0, "train.pgg.use": ["classification"]},
            "train.rounds: 2 rounds differ in their pyramid labels",
        ),
        ({"optional.probe": ["backbone", "backbone"]}, "optional.probe: ['backbone', 'backbone'] names an entry twice"),
        ({"probe.kinds": ["knn", "knn"]}, "probe.kinds: ['knn', 'knn'] names an entry twice"),
        ({"probe.neighbours": 30, "probe.knn_pixels": 20}, "probe.neighbours: 30 is more than probe.knn_pixels 20"),
        (
            {"optional.finetune": ["segmenter"] * 2},
            "optional.finetune: ['segmenter', 'segmenter'] names an entry twice",
        ),
        ({"finetune.fractions": [0.5, 0.5]}, "finetune.fractions: [0.5, 0.5] names an entry twice"),
        ({"finetune.steps": 0, "finetune.head_steps": 0}, "finetune.steps: 0, and finetune.head_steps is 0 as well"),
    ],
)
def test_keys_must_fit_each_other(changes, text):
    raw = copy.deepcopy(RAW)
    for key, value in changes.items():
        *groups, last = key.split(".")
        inner = raw
        for group in groups:
            inner = inner[group]
        inner[last] = value
    assert text in refuse(raw)


def test_problems_across_keys_are_listed_together():
    raw = altered("extract.levels", [4, 2, 2000])
    raw["pgg"]["k"] = [2]
    assert refuse(raw).startswith("params.yaml: 3 problems\n")


@pytest.mark.parametrize("raw", [3, "text", ["data"], None, True])
def test_a_file_that_is_no_mapping_is_refused(raw):
    assert "expected groups of keys" in refuse(raw)


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.dates()
KEYS = st.text(max_size=4) | st.sampled_from(sorted({part for key in known_keys() for part in key.split(".")}))
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.integers() | st.none(), inner, max_size=4),
    max_leaves=12,
)


@given(tree=TREES)
def test_any_tree_gives_params_or_a_params_error(tree):
    try:
        parse_params(tree)
    except ParamsError as error:
        assert str(error).startswith("params.yaml: ")
    else:
        pytest.fail("random trees cannot hold all keys")


@given(key=st.sampled_from(known_keys()), value=TREES)
def test_any_value_in_place_of_one_gives_params_or_an_error_that_names_the_key(key, value):
    try:
        assert isinstance(parse_params(altered(key, value)), Params)
    except ParamsError as error:
        assert key.split(".")[0] in str(error)


def test_what_dvc_writes_is_read_back(tmp_path):
    file = tmp_path / "params.yaml"
    file.write_text(yaml.safe_dump(altered("train.learning_rate", 1e-5)))
    assert load_params(file) == parse_params(altered("train.learning_rate", 1e-5))
