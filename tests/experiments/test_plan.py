import json
from pathlib import Path

import pytest

from pipeline.errors import InputError, ParamsError
from pipeline.experiments.plan import BASELINES, folder_digest, is_baseline, plan_runs

pytestmark = pytest.mark.usefixtures("project")
ROOT = Path(__file__).parents[2]


def images(folder: Path) -> Path:
    (folder / "images/train").mkdir(parents=True)
    (folder / "images/train/a.png").write_bytes(b"12345")
    return folder


def test_every_baseline_is_a_preset():
    assert all((ROOT / f"presets/{name}.yaml").is_file() for name in BASELINES)


def test_runs_are_named_by_baseline_and_seed_and_go_seed_by_seed():
    runs = plan_runs("", [], "0 2", ["fs4", "picie+pgg"])
    assert [run.name for run in runs] == ["fs4", "picie+pgg", "fs4-s2", "picie+pgg-s2"]
    assert [run.seed for run in runs] == [0, 0, 2, 2]
    assert {run.data for run in runs} == {"sample"}
    assert runs[3].record(Path("docs/results")) == Path("docs/results/sample-picie+pgg-s2.json")
    assert [run.preset for run in plan_runs("", [], "0", [])] == list(BASELINES)


def test_data_presets_come_before_the_baseline_and_the_place_last(tmp_path):
    root = images(tmp_path / "My Photos")
    (run,) = plan_runs(f"{root}/", ["camvid"], "1", ["features"])
    flags = dict(flag.split("=", 1) for flag in run.flags[1::2])
    assert run.flags[::2] == ("-S",) * len(flags)
    assert flags["data.resize"] == "240"
    assert flags["train.epochs"] == "0"  # camvid says otherwise
    assert (flags["pretrain.seed"], flags["train.seed"]) == ("1", "1")
    assert (flags["data.source"], flags["data.root"]) == ("folder", f'"{root}"')
    assert (run.data, run.params["root"]) == ("my-photos", str(root))
    assert run.command == (
        "dvc exp run $(fs4 preset camvid features) -S pretrain.seed=1 -S train.seed=1 -S data.source=folder "
        "-S data.root=MY-PHOTOS"
    )


def test_the_data_are_named_by_their_folder_else_by_the_presets(tmp_path):
    root = images(tmp_path / "dubai_aerial")
    assert plan_runs(str(root), ["camvid"], "0", ["fs4"])[0].data == "dubai_aerial"
    assert plan_runs("", ["tiny"], "0", ["fs4"])[0].data == "tiny"


def test_a_record_is_up_to_date_until_parameters_code_or_data_change(tmp_path, project):
    root, folder = images(tmp_path / "photos"), tmp_path / "results"
    folder.mkdir()

    def plan():
        return plan_runs(str(root), [], "0", ["fs4"])[0]

    run = plan()
    assert not run.is_recorded(folder)
    run.record(folder).write_text(json.dumps({"digests": run.digests}))
    assert run.is_recorded(folder)
    params = project / "params.yaml"
    text = params.read_text()
    # how to run, and what the report shows, do not matter
    params.write_text(
        text.replace("  threads: 0", "  threads: 1").replace("  pyramid_images: 4", "  pyramid_images: 5")
    )
    assert plan().is_recorded(folder)
    params.write_text(text.replace("  temperature: 0.2", "  temperature: 0.3"))
    assert not plan().is_recorded(folder)
    params.write_text(text)
    (project / "pipeline/report/page.py").write_text("# other code\n")
    assert plan().is_recorded(folder)
    (project / "pipeline/data/frames.py").write_text("# other code\n")
    assert not plan().is_recorded(folder)
    (project / "pipeline/data/frames.py").write_text("# code\n")
    assert plan().is_recorded(folder)
    root = root.rename(tmp_path / "elsewhere").rename(tmp_path / "photos")
    (root / "images/train/b.png").write_bytes(b"1")
    assert not plan().is_recorded(folder)
    run.record(folder).write_text("[")
    assert not run.is_recorded(folder)


def test_the_same_files_elsewhere_are_the_same_data(tmp_path):
    assert folder_digest(images(tmp_path / "a")) == folder_digest(images(tmp_path / "b"))
    (tmp_path / "b/images/train/a.png").write_bytes(b"123456")
    assert folder_digest(tmp_path / "a") != folder_digest(tmp_path / "b")


@pytest.mark.parametrize("name", ["picie", "picie-s1", "picie+cae-s12", "fs4"])
def test_names_of_baselines_are_known(name):
    assert is_baseline(name)


@pytest.mark.parametrize("name", ["picie-s0", "picie-sx", "picie-2", "mine", "fs4-s1-s1"])
def test_other_experiments_are_left_alone(name):
    assert not is_baseline(name)


@pytest.mark.parametrize("seeds", ["", "0 0", "-1", "x", "0,1"])
def test_seeds_are_different_whole_numbers(seeds):
    with pytest.raises(ParamsError, match="different whole numbers"):
        plan_runs("", [], seeds, [])


def test_wrong_names_and_places_are_refused_with_the_mend(tmp_path):
    with pytest.raises(ParamsError, match=r"pici: no such baseline; there are features, "):
        plan_runs("", [], "0", ["pici"])
    with pytest.raises(ParamsError, match=r"presets/x\.yaml: no such preset"):
        plan_runs("", ["x"], "0", [])
    for root in ("data", str(tmp_path / "nowhere")):
        with pytest.raises(InputError, match="not the absolute path of a folder"):
            plan_runs(root, [], "0", [])
    (tmp_path / 'a"b').mkdir()
    with pytest.raises(InputError, match="rename the folder"):
        plan_runs(str(tmp_path / 'a"b'), [], "0", [])
