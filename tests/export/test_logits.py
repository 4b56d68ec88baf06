import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from pipeline.export.graph import build_graph
from pipeline.export.onnx_files import INPUT, open_session, write_onnx
from pipeline.export.parity import run_onnx, run_torch
from tests.export.conftest import RESIZE, K, make_photo, write_photo

EXAMPLE = Path(__file__).parents[2] / "examples/onnx_segment.py"
NAMES = ["sky", "road", "car", "tree"]


@pytest.fixture(scope="module")
def logits(segmenter, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("logits") / "model.onnx"
    notes = {"names": NAMES, "named_ids": list(range(K)), "resize": RESIZE, "multiple_of": 32, "output": "logits"}
    write_onnx(build_graph(segmenter, "logits"), path, channels=3, notes=notes)
    return path


def test_the_file_scores_as_the_graph_for_any_batch_and_size(logits, segmenter):
    onnx.checker.check_model(onnx.load(logits), full_check=True)
    session, graph = open_session(logits, 1), build_graph(segmenter, "logits")
    (given,) = session.get_outputs()
    assert (given.name, given.type) == ("logits", "tensor(float)")
    for count, height, width in [(1, 64, 64), (3, 32, 96), (2, 160, 128)]:
        images = np.stack([make_photo(height, width, seed).transpose(2, 0, 1) for seed in range(count)])
        (found,) = session.run(None, {INPUT: images})
        with torch.no_grad():
            expected = graph(torch.from_numpy(images)).numpy()
        assert found.dtype == np.float32
        assert found.shape == (count, K, height, width)
        np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())
        assert (run_onnx(logits, 1)(images) == run_torch(segmenter)(images)).mean() > 0.999


def test_the_example_takes_the_best_of_the_logits(logits, segmenter, tmp_path):
    photo = write_photo(tmp_path / "photo.png", RESIZE, 96, 3)  # of the training's scale, so nothing is resized
    command = [sys.executable, "-I", str(EXAMPLE), str(logits), str(photo), str(tmp_path / "labels.png")]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    with Image.open(photo) as picture, Image.open(tmp_path / "labels.png") as labels:
        found, pixels = np.asarray(labels), np.asarray(picture)
    expected = run_torch(segmenter)(pixels.transpose(2, 0, 1)[None].copy())[0]
    assert (found == expected).mean() > 0.999
    shares = {line.split("%  ")[1]: float(line.split("%")[0]) for line in ended.stdout.splitlines()}
    assert list(shares) == NAMES
    counts = np.bincount(found.ravel(), minlength=K)
    assert list(shares.values()) == pytest.approx((100 * counts / counts.sum()).tolist(), abs=0.06)
