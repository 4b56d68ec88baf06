"""Any `params.yaml`, `classes.json`, manifest or names file: read as it is meant, or refused by name."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.classes import load_classes
from pipeline.errors import PipelineError
from pipeline.evaluation.label_maps import LabelMapWriter, encode_labels
from pipeline.labels.names import read_names, write_names
from pipeline.params import Params, known_keys, parse_params
from pipeline.runtime.artifacts import Artifact, create_artifact, open_artifact, write_json
from pipeline.yaml_reader import read_yaml
from tests.fuzz.cases import judge, tried
from tests.fuzz.damage import NUMBERS, TEXT, VALUES, damaged

ROOT = Path(__file__).parents[2]
WHOLE = (ROOT / "params.yaml").read_bytes()
RAW = read_yaml(ROOT / "params.yaml")
SHORT = b'data:\n  source: scenes\n  root: "a b"  # c\npgg:\n  k: [1, 2.5e-3, ~]\n  x: &a {b: c}\n- d\n? e\n: |\n  f\n'
CLASSES = {
    "classes": [{"id": 0, "name": "sky", "kind": "stuff"}, {"id": 1, "name": "car", "kind": "thing"}],
    "ignore_index": 255,
    "mask_ids": {"7": 0, "8": None},
    "name": "toy",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("texts")


@st.composite
def changed_params(draw: st.DrawFn) -> object:
    """The parameters of the project with up to three keys set to anything, removed or added."""
    raw = copy.deepcopy(RAW)
    for key in draw(st.lists(st.sampled_from(known_keys()), min_size=1, max_size=3)):
        *groups, last = key.split(".")
        place = raw
        for group in groups:
            place = place.get(group) if isinstance(place, dict) else None
        if not isinstance(place, dict):
            continue
        match draw(st.integers(0, 3)):
            case 0:
                place.pop(last, None)
            case 1:
                place[draw(TEXT | st.integers() | st.none())] = draw(VALUES)
            case _:
                place[last] = draw(NUMBERS | st.lists(st.integers(0, 9), max_size=4) | VALUES)
    return raw


@given(raw=changed_params() | VALUES)
@tried("params")
def test_any_parameters(raw: object) -> None:
    params = judge("params", lambda: parse_params(raw), names="params.yaml")
    if params is not None:
        assert isinstance(params, Params)
        assert params.model_dump() == Params.model_validate(raw).model_dump()
        parse_params(params.model_dump())
        json.dumps(params.model_dump(), allow_nan=False).encode()


@given(
    data=damaged(SHORT)
    | st.text(alphabet="ab:-?!&*[]{}\"' \n\t#|>%@<=0.1e~", max_size=50).map(lambda text: text.encode())
    | VALUES.map(lambda value: yaml.safe_dump({"key": value}, allow_unicode=True).encode("utf-8", "surrogatepass"))
    | st.binary(max_size=30)
    | damaged(WHOLE[:600])
)
@tried("yaml")
def test_any_yaml(folder: Path, data: bytes) -> None:
    path = folder / "params.yaml"
    path.write_bytes(data)
    value = judge("yaml", lambda: read_yaml(path), names=str(path))
    if value is not None:
        judge("yaml", lambda: parse_params(value), names="params.yaml")
        repr(value).encode("utf-8")


@st.composite
def changed_classes(draw: st.DrawFn) -> object:
    """A class list with anything in some places."""
    content = copy.deepcopy(CLASSES)
    for _ in range(draw(st.integers(1, 2))):
        entries = content.get("classes")
        entry = entries[0] if isinstance(entries, list) and entries and isinstance(entries[0], dict) else {}
        match draw(st.integers(0, 6)):
            case 0:
                entry[draw(st.sampled_from(["id", "name", "kind"]) | TEXT)] = draw(VALUES)
            case 1:
                entry.pop(draw(st.sampled_from(["id", "name", "kind"])), None)
            case 2:
                content[draw(st.sampled_from([*content, "note", "protocol"]) | TEXT)] = draw(VALUES)
            case 3:
                content["mask_ids"] = draw(st.dictionaries(TEXT | st.just("#ff0000"), VALUES, max_size=3))
            case 4:
                count = draw(st.integers(0, 300))
                content["classes"] = [{"id": number, "name": f"c{number}"} for number in range(count)] or [{}]
            case 5:
                entry["name"] = draw(TEXT)
            case 6:
                content["ignore_index"] = draw(NUMBERS)
    return content


@given(
    data=changed_classes().map(lambda content: json.dumps(content).encode())
    | VALUES.map(lambda value: json.dumps(value).encode())
    | damaged(json.dumps(CLASSES).encode())
    | st.binary(max_size=40)
)
@tried("classes")
def test_any_class_list(folder: Path, data: bytes) -> None:
    path = folder / "classes.json"
    path.write_bytes(data)
    classes = judge("classes", lambda: load_classes(path), names=str(path))
    if classes is not None:
        count = len(classes.names)
        assert 1 <= count <= 255
        assert len(set(classes.names)) == count
        assert all(name.strip() and name.isprintable() for name in classes.names)
        assert count <= classes.ignore_index <= 255
        assert classes.kinds is None or set(classes.kinds) <= {"thing", "stuff"}
        write_json(folder / "written.json", [classes.names, classes.note, classes.name, classes.protocol])
        if classes.mask_ids:
            found = classes.mask_ids.translate(np.array(classes.mask_ids.values))
            assert set(found.tolist()) <= {*range(count), classes.ignore_index}


@pytest.fixture(scope="module")
def evaluation(folder: Path) -> Artifact:
    with create_artifact(folder / "evaluation") as writer:
        writer.notes |= {"stage": "evaluate", "inputs": {"data/segmenter": "0123456789abcdef"}}
        maps = LabelMapWriter(writer.path, writer.rows)
        maps.add("train/a.png", "train", encode_labels(np.zeros((4, 4), np.int64)))
        maps.flush()
        entries = [{"cluster": cluster, "pixels": 1, "share": 50.0, "class": None} for cluster in range(2)]
        write_json(writer.path / "clusters.json", entries)
    return open_artifact(folder / "evaluation")


@given(data=st.data())
@tried("names")
def test_any_names_file(folder: Path, evaluation: Artifact, data: st.DataObject) -> None:
    path = folder / "names.yaml"
    write_names(path, evaluation, force=True)
    whole = path.read_bytes()
    content = yaml.safe_load(whole)
    content["names"] |= data.draw(st.dictionaries(st.integers(-1, 3) | TEXT, VALUES, max_size=2))
    dumped = yaml.safe_dump(content, allow_unicode=True).encode("utf-8", "surrogatepass")
    path.write_bytes(data.draw(st.just(dumped) | damaged(whole)))
    names = judge("names", lambda: read_names(path, evaluation), names=str(path))
    if names is not None:
        assert len(names.of_cluster) == 2
        assert all(name and name.isprintable() for name in names.of_cluster)


@given(data=st.data())
@tried("manifests")
def test_any_manifest(folder: Path, evaluation: Artifact, data: st.DataObject) -> None:
    path = evaluation.path / "manifest.json"
    whole = json.dumps(evaluation.manifest, sort_keys=True, indent=2).encode()
    content = copy.deepcopy(evaluation.manifest)
    place = data.draw(st.sampled_from([content, content["files"], content["files"]["clusters.json"]]))
    place[data.draw(st.sampled_from([*place, "../../etc/passwd", "/etc/passwd"]) | TEXT)] = data.draw(VALUES)
    changed = json.dumps(content).encode()
    path.write_bytes(data.draw(st.just(changed) | damaged(whole)))
    try:
        opened = judge("manifests", lambda: open_artifact(evaluation.path), names=str(evaluation.path))
        if opened is not None:
            assert all(
                (evaluation.path / name).resolve().is_relative_to(evaluation.path) for name in opened.manifest["files"]
            )
            for name in opened.manifest["files"]:
                try:
                    assert opened.file(name).is_file()
                except PipelineError as error:
                    assert name in str(error)
    finally:
        path.write_bytes(whole)
