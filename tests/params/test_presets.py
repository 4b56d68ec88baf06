from pathlib import Path

import pytest

from pipeline.data.sources.registry import PROTOCOLS, SOURCES
from pipeline.errors import ParamsError
from pipeline.params import load_params, parse_params
from pipeline.params.presets import (
    find_presets,
    flatten_keys,
    merge_overrides,
    overlay_presets,
    read_presets,
    spell_flags,
)
from pipeline.yaml_reader import read_yaml

ROOT = Path(__file__).parents[2]
RAW = read_yaml(ROOT / "params.yaml")
FLAT = dict(flatten_keys(RAW))


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    (tmp_path / "presets").mkdir()
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def changes(name: str) -> dict[str, object]:
    return dict(flatten_keys(read_yaml(ROOT / "presets" / f"{name}.yaml")))


def test_presets_must_exist_and_fit_the_parameters(project):
    (project / "presets" / "bad.yaml").write_text("train:\n  kk: 3\n")
    (project / "presets" / "list.yaml").write_text("[1]\n")
    with pytest.raises(ParamsError, match=r"presets/x\.yaml: no such preset; known here: bad, list$"):
        read_presets(["x"])
    with pytest.raises(ParamsError, match=r"presets/bad\.yaml: train\.kk: unknown key"):
        read_presets(["bad"])
    with pytest.raises(ParamsError, match=r"presets/list\.yaml: expected groups of keys"):
        read_presets(["list"])


def test_presets_are_laid_over_parameters_that_were_changed(project):
    (project / "presets" / "few.yaml").write_text("train:\n  k: 3\n")
    params = load_params()
    changed = params.model_copy(update={"data": params.data.model_copy(update={"resize": 96})})
    laid = overlay_presets(changed, ["few"])
    assert (laid.train.k, laid.data.resize) == (3, 96)
    (project / "presets" / "many.yaml").write_text("extract:\n  levels: [1, 112]\n")
    with pytest.raises(ParamsError, match=r"params\.yaml with many: .*112 cells a side do not fit"):
        overlay_presets(changed, ["many"])


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=lambda protocol: protocol.name)
def test_every_protocol_but_camvid_has_one_preset(protocol, monkeypatch):
    monkeypatch.chdir(ROOT)
    source = next(name for name, source in SOURCES.items() if protocol in source.protocols)
    assert len(find_presets(source, protocol.name)) == (source != "camvid")


def test_presets_are_checked_together_not_each_alone(project):
    (project / "presets" / "many.yaml").write_text("train:\n  warmup_epochs: 20\n  pgg:\n    use: [classification]\n")
    (project / "presets" / "long.yaml").write_text("train:\n  epochs: 30\n")
    assert read_presets(["long", "many"]) == {
        "train": {"epochs": 30, "warmup_epochs": 20, "pgg": {"use": ["classification"]}}
    }
    with pytest.raises(ParamsError, match=r"params\.yaml with presets/many\.yaml: train\.warmup_epochs"):
        read_presets(["many"])


def test_merging_replaces_values_and_keeps_the_rest():
    base = {"a": {"b": 1, "c": [1, 2]}, "d": 4}
    merged = merge_overrides(base, {"a": {"c": [3]}, "e": {"f": 5}})
    assert merged == {"a": {"b": 1, "c": [3]}, "d": 4, "e": {"f": 5}}
    assert base == {"a": {"b": 1, "c": [1, 2]}, "d": 4}


def test_merging_nothing_changes_nothing():
    assert parse_params(merge_overrides(RAW, {})) == parse_params(RAW)


def test_values_with_blanks_cannot_be_flags():
    with pytest.raises(ParamsError, match="has blanks"):
        spell_flags({"report": {"title": "a b"}})


def test_fs4_is_the_default():
    assert all(FLAT[key] == value for key, value in changes("fs4").items())


@pytest.mark.parametrize(
    ("name", "differs"), [("picie+pgg", {"train.pgg.weight", "train.pgg.use"}), ("picie+cae", {"train.cae.enabled"})]
)
def test_a_module_is_all_that_is_added_to_picie(name, differs):
    plain, guided = FLAT | changes("picie"), FLAT | changes(name)
    assert {key for key in FLAT if plain[key] != guided[key]} == differs
    assert all(guided[key] == changes("fs4")[key] for key in differs)


def test_mdc_is_picie_with_one_view():
    one, two = FLAT | changes("mdc"), FLAT | changes("picie")
    assert {key for key in FLAT if one[key] != two[key]} == {"train.one_view"}
    assert one["train.one_view"] is True


@pytest.mark.parametrize("name", ["features", "mdc", "picie", "picie+pgg", "picie+cae", "fs4"])
def test_baselines_share_all_stages_before_the_training(name):
    assert {key.split(".")[0] for key in changes(name)} == {"train"}
    assert not {"train.k", "train.seed", "train.batch_size"} & changes(name).keys()


@pytest.mark.parametrize("name", sorted(PROTOCOLS.keys() - {"camvid-11"}))  # whose preset is of a smaller copy
def test_every_published_protocol_has_a_preset_with_its_number_of_classes(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    preset = name if (ROOT / f"presets/{name}.yaml").is_file() else name.rpartition("-")[0]
    params = parse_params(merge_overrides(RAW, read_presets([preset])))
    source = SOURCES[params.data.source]
    assert PROTOCOLS[name] in source.protocols
    assert params.data.protocol == name
    assert params.train.k == len(PROTOCOLS[name].classes)


DOMAINS = {
    # up is up: mirrored only left to right, if at all; seen from above or through a microscope: any way round
    "driving": (True, False, 0, 0),
    "retail": (False, False, 0, 0),
    "aerial": (True, True, 256, 32),
    "agriculture": (True, True, 256, 32),
    "medical": (True, True, 512, 64),
}


@pytest.mark.parametrize("name", DOMAINS)
def test_a_domain_says_how_images_may_be_turned_cut_and_read(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    flip, turned, tile, overlap = DOMAINS[name]
    params = parse_params(merge_overrides(RAW, read_presets([name])))
    for views in (params.pretrain.views, params.train.views):
        assert (views.flip, views.flip_vertical, views.rotate) == (flip, turned, turned)
    assert (params.data.tile, params.data.tile_overlap) == (tile, overlap)
    assert (params.data.crop == "center") is turned
    stated = {"channels", "tile", "tile_overlap", "ignore_index", "crop", "resize"}
    assert stated <= {key.removeprefix("data.") for key in changes(name)}
    assert (params.data.channels, params.data.ignore_index) == (3, 255)


@pytest.mark.parametrize("name", DOMAINS)
def test_a_domain_takes_other_channels(name):
    raw = merge_overrides(RAW, read_yaml(ROOT / "presets" / f"{name}.yaml"))
    params = parse_params(merge_overrides(raw, {"data": {"source": "folder", "channels": 4}}))
    assert params.data.channels == 4


PRETEXTS = sorted(path.stem for path in (ROOT / "presets").glob("pretext-*.yaml"))


@pytest.mark.parametrize("name", PRETEXTS)
def test_a_published_pretext_says_what_differs_and_how_large_its_frames_must_be(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    head = (ROOT / f"presets/{name}.yaml").read_text().partition("pretrain:")[0]
    assert "\n# differs: " in head
    assert "`-S data.resize=256`" in head
    params = parse_params(merge_overrides(RAW, read_presets([name])))
    assert params.pretrain.method == name.removeprefix("pretext-")
    assert params.data.resize < params.pretrain.view_size <= 256


def test_rotation_has_the_numbers_of_the_authors_configuration():
    of_rotation = changes("pretext-rotation")
    published = {"epochs": 50, "batch_size": 192, "learning_rate": 0.1, "weight_decay": 5e-4, "views.min_area": 0.08}
    assert published.items() <= {key.removeprefix("pretrain."): value for key, value in of_rotation.items()}.items()
