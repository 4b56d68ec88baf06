"""Any side-car of a trained model, and any names in what is exported."""

import json
import os
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from pipeline.export.card import escape
from pipeline.export.loading import LoadedSegmenter, load_segmenter
from pipeline.export.onnx_files import METADATA, open_session, simplify
from pipeline.export.outputs import FORMULA, plain
from pipeline.runtime.artifacts import MANIFEST
from pipeline.runtime.digests import file_digest
from tests.export.conftest import make_bands, make_segmenter, save
from tests.fuzz.cases import judge, tried
from tests.fuzz.damage import NUMBERS, TEXT, VALUES, damaged


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(make_segmenter(make_bands(2)), tmp_path_factory.mktemp("model") / "segmenter")


@given(data=st.data())
@tried("sidecars")
def test_any_side_car(model: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    whole = (model / "segmenter.json").read_bytes()
    content = json.loads(whole)
    architecture = content["architecture"]
    whole_cae = dict(architecture["cae"])
    places = [
        content,
        content["frame"],
        architecture,
        architecture["encoder"],
        architecture["encoder"]["inputs"],
        architecture["cae"],
    ]
    place = data.draw(st.sampled_from(places))
    place[data.draw(st.sampled_from([*place]) | TEXT)] = data.draw(VALUES | NUMBERS)
    copy = tmp_path_factory.mktemp("copy")
    os.link(model / "weights.safetensors", copy / "weights.safetensors")
    (copy / "segmenter.json").write_bytes(data.draw(st.just(json.dumps(content).encode()) | damaged(whole)))
    manifest = json.loads((model / MANIFEST).read_text())
    size, digest = (copy / "segmenter.json").stat().st_size, file_digest(copy / "segmenter.json")
    manifest["files"]["segmenter.json"] |= {"bytes": size, "sha256": digest}
    (copy / MANIFEST).write_text(json.dumps(manifest))

    def load() -> LoadedSegmenter:
        return load_segmenter(copy, device="cpu", window=32)

    loaded = judge("sidecars", load)
    if loaded is not None:
        assert loaded.k >= 1
        # what context is computed with may cost any time
        if loaded.network.architecture["cae"] == whole_cae and loaded.resize <= 64 and loaded.bands:
            image = np.ones((8, 9, loaded.bands.channels), loaded.bands.values)
            assert loaded.label(image).shape == (8, 9)


def tiny_onnx(path: Path, notes: dict) -> None:
    """A model of one convolution, with notes as `fs4 export` adds them."""
    weight = numpy_helper.from_array(np.ones((2, 3, 1, 1), np.float32), "weight")
    values = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, c, 4, 4]) for name, c in (("x", 3), ("y", 2))
    ]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "weight"], ["y"])], "tiny", values[:1], values[1:], [weight]
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    helper.set_model_props(made, {METADATA: json.dumps(notes, sort_keys=True)})
    onnx.save(made, path)


NAMES = st.lists(TEXT.filter(lambda text: text.strip() and text.isprintable()), min_size=1, max_size=4)


@given(names=NAMES)
@tried("exported")
def test_any_names_in_what_is_exported(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    folder = tmp_path_factory.getbasetemp()
    tiny_onnx(folder / "model.onnx", {"names": names})

    def read() -> dict:
        simplify(folder / "model.onnx", folder / "simple.onnx")
        held = open_session(folder / "simple.onnx", 1).get_modelmeta().custom_metadata_map
        assert held[METADATA].isascii()
        return held

    assert json.loads(judge("exported", read)[METADATA]) == {"names": names}
    for name in names:
        line = escape(name)
        assert "\n" not in line
        assert not {"<", ">", "://"} & {line, *line}
        assert not re.match(r"[-+=]|\d+\.", line)
        assert not plain(name).startswith(FORMULA)
