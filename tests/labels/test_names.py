import json

import numpy as np
import pytest
import yaml
from PIL import Image

from pipeline.data.classes import load_classes
from pipeline.errors import InputError, ParamsError
from pipeline.evaluation.label_maps import LabelMapWriter
from pipeline.labels.names import Names, load_names, read_names, segmentation_by, segmentation_of, write_names
from pipeline.labels.naming import EVALUATION, name_clusters
from pipeline.runtime.artifacts import create_artifact, open_artifact, write_json
from pipeline.runtime.digests import file_digest
from tests.test_cli import fs4

IDS = ["train/a.jpg", "train/a.png", "val/deep/b.jpg"]
MAPS = [np.random.default_rng(i).integers(0, 4, (6, 8)) for i in range(3)]


def write_evaluation(digest: str = "0123456789abcdefgh", classes=("sky", 'a "b"\nc', None, None)) -> None:
    with create_artifact(EVALUATION) as writer:
        writer.notes |= {"stage": "evaluate", "inputs": {"data/segmenter": digest}}
        maps = LabelMapWriter(writer.path, writer.rows)
        for image_id, labels in zip(IDS, MAPS, strict=True):
            maps.add(image_id, image_id.split("/")[0], labels)
        maps.flush()
        entries = [
            {"cluster": cluster, "pixels": 10 * cluster, "share": 100 * cluster / 6, "class": classes[cluster]}
            for cluster in range(4)
        ]
        write_json(writer.path / "clusters.json", entries)


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_evaluation()
    return tmp_path


def run(**options) -> str:
    given = {"force": False, "check": None, "apply": None, "output": None, **options}
    return name_clusters(given.pop("file", None), **given)


def edit(path, **names: str) -> None:
    content = yaml.safe_load(path.read_text("utf-8"))
    content["names"] |= {int(cluster.removeprefix("c")): name for cluster, name in names.items()}
    path.write_text(yaml.safe_dump(content, allow_unicode=True), "utf-8")


def test_the_file_comes_back_and_says_what_is_known(project):
    file = project / "names.yaml"
    assert write_names(file, open_artifact(EVALUATION), force=False) == 4
    text = file.read_text("utf-8")
    assert '  0: "cluster 0"  # 0.0 % of the pixels; matched with "sky"\n' in text
    assert 'matched with "a \\"b\\"\\nc"\n' in text
    assert text.index('  3: "cluster 3"') < text.index('  0: "cluster 0"')
    names = read_names(file, open_artifact(EVALUATION))
    assert names.of_cluster == ("cluster 0", "cluster 1", "cluster 2", "cluster 3")
    edit(file, c1="Bäume", c3="Bäume", c0=" sea ")
    names = read_names(file, open_artifact(EVALUATION))
    assert names.of_cluster == ("sea", "Bäume", "cluster 2", "Bäume")
    assert names.distinct == ("sea", "Bäume", "cluster 2")
    assert run(check=file) == f"{file}: 4 clusters, 3 names"


def test_an_edited_file_is_never_written_over_unasked(project):
    file = project / "names.yaml"
    assert "4 clusters in" in run(file=file)
    edit(file, c0="mine")
    before = file.read_bytes()
    with pytest.raises(InputError, match=r"names\.yaml: exists, and may hold names that you gave; .* --force"):
        run(file=file)
    assert file.read_bytes() == before
    run(file=file, force=True)
    assert b"mine" not in file.read_bytes()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({4: "x"}, "names.4: no such cluster; they are 0..3"),
        ({"two": "x"}, "names.two: no such cluster"),
        ({1: 7}, "names.1: 7 is no text; write a name, in quotes"),
        ({1: "  "}, "names.1: '  ' is no text"),
        ({1: "a\nb"}, "must be one line"),
        ({1: "x" * 101}, "at most 100 characters"),
    ],
)
def test_wrong_names_are_told(project, change, problem):
    file = project / "names.yaml"
    run(file=file)
    content = yaml.safe_load(file.read_text("utf-8"))
    content["names"] |= change
    del content["names"][2]
    file.write_text(yaml.safe_dump(content), "utf-8")
    with pytest.raises(ParamsError) as caught:
        run(check=file)
    assert "names.yaml: 2 problems" in str(caught.value)
    assert "names.2: missing; give every cluster of 0..3 a name" in str(caught.value)
    assert problem in str(caught.value)


def test_names_of_another_training_or_no_names_are_refused(project):
    file = project / "names.yaml"
    run(file=file)
    write_evaluation("fedcba9876543210")
    with pytest.raises(ParamsError, match="segmentation 0123456789abcdef, but this is segmentation fedcba98"):
        run(check=file)
    file.write_text("names: {}\n")
    with pytest.raises(ParamsError, match="expected the keys segmentation and names"):
        run(check=file)
    with pytest.raises(ParamsError, match="no such file"):
        run(check=project / "other.yaml")


def test_names_are_read_for_a_model_without_its_evaluation(project):
    file = project / "names.yaml"
    run(file=file)
    edit(file, c0="sea", c1="tree", c2="sea", c3="sand")
    names = load_names(file, 4)
    assert names == Names("0123456789abcdef", ("sea", "tree", "sea", "sand"))
    assert names.merged_ids == (0, 1, 0, 2)
    assert load_names(file, 4, "0123456789abcdef") == names
    with pytest.raises(ParamsError, match="but this is segmentation other"):
        load_names(file, 4, "other")
    with pytest.raises(ParamsError, match=r"names\.3: no such cluster; they are 0\.\.2"):
        load_names(file, 3)
    with create_artifact(project / "data/segmenter") as writer:
        (writer.path / "weights").write_bytes(b"x")
    segmenter = open_artifact(project / "data/segmenter")
    write_evaluation(file_digest(segmenter.path / "manifest.json"))
    assert segmentation_by(segmenter) == segmentation_of(open_artifact(EVALUATION))


def test_maps_are_renamed_into_a_copy(project):
    file, out = project / "names.yaml", project / "named"
    run(file=file)
    edit(file, c0="sea", c1="tree", c2="sea", c3="sand")
    before = {path.name: file_digest(path) for path in EVALUATION.rglob("*") if path.is_file()}
    assert run(apply=file, output=out) == f"3 label maps with 3 names in {out}"
    assert {path.name: file_digest(path) for path in EVALUATION.rglob("*") if path.is_file()} == before
    legend = json.loads((out / "legend.json").read_text("utf-8"))
    assert [(entry["name"], entry["clusters"]) for entry in legend] == [("sea", [0, 2]), ("tree", [1]), ("sand", [3])]
    assert load_classes(out / "classes.json").names == ("sea", "tree", "sand")
    for name, labels in zip(("train/a.png", "train/a.png.png", "val/deep/b.png"), MAPS, strict=True):
        with Image.open(out / name) as picture:
            assert picture.mode == "P"
            np.testing.assert_array_equal(np.asarray(picture), np.array([0, 1, 0, 2])[labels])
            first = "#{:02x}{:02x}{:02x}".format(*picture.convert("RGB").getpixel((0, 0)))
        assert first == legend[[0, 1, 0, 2][labels[0, 0]]]["colour"]
    edit(file, c3="sea")
    run(apply=file, output=out)  # its own folder may be made anew
    assert len(json.loads((out / "legend.json").read_text("utf-8"))) == 2


def test_nothing_else_is_written_over(project):
    file = project / "names.yaml"
    run(file=file)
    (project / "photos").mkdir()
    (project / "photos/a.jpg").write_bytes(b"x")
    with pytest.raises(InputError, match="photos: exists, and was not made by this command"):
        run(apply=file, output=project / "photos")
    with pytest.raises(InputError, match="was not made by this command"):
        run(apply=file, output=EVALUATION)
    with pytest.raises(InputError, match="lies in the finished output"):
        run(apply=file, output=EVALUATION / "named")
    assert (project / "photos/a.jpg").read_bytes() == b"x"


def test_options_must_fit_together(project):
    file = project / "names.yaml"
    with pytest.raises(ParamsError, match="go together"):
        run(apply=file)
    with pytest.raises(ParamsError, match="go together"):
        run(output=project / "out")
    with pytest.raises(ParamsError, match="give one of them"):
        run(check=file, apply=file, output=project / "out")


def test_the_command_says_one_line(project):
    assert fs4(project, "name").stdout == "4 clusters in names.yaml; edit their names, then --check and --apply\n"
    assert fs4(project, "name").returncode == 3
