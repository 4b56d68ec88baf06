"""What is read cannot run code, lead out of its folder, or cost absurd memory: rules of the code, and real payloads."""

import ast
import hashlib
import io
import json
import os
import pickle
import re
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from pipeline.backbones.foreign import read_tensors
from pipeline.data.frames import Frame
from pipeline.data.manifest import ImageRow, ImageTable, read_images, write_images
from pipeline.errors import InputError, ParamsError
from pipeline.evaluation.label_maps import SCHEMA, encode_labels
from pipeline.evaluation.pairs import read_labels
from pipeline.features.raw_shards import RawShards
from pipeline.labels.names import Names
from pipeline.labels.relabelling import apply_names
from pipeline.runtime.artifacts import create_artifact, open_artifact, replace_file, write_json
from pipeline.training.checkpoints import Checkpoints
from pipeline.yaml_reader import read_yaml
from tests.faults.test_images import bomb
from tests.graph.project import ROOT

SOURCES = sorted(
    path for folder in ("pipeline", "stages", "benchmarks", "examples") for path in (ROOT / folder).rglob("*.py")
)
UNSAFE_MODULES = {"cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "xml.etree.ElementTree"}
UNSAFE_CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "yaml.unsafe_load", "yaml.full_load"}
UNSAFE_CALLS |= {"torch.jit.load", "torch.hub.load", "torch.export.load", "pd.read_pickle", "np.lib.format.read_array"}
CHECKED_BY_NAME = {
    "torch",
    "numpy",
    "yaml",
    "subprocess",
    "PIL.Image",
}  # whose functions are not imported by themselves


def calls(tree: ast.AST) -> list[tuple[str, ast.Call]]:
    """Every call with its dotted name."""
    return [(ast.unparse(node.func), node) for node in ast.walk(tree) if isinstance(node, ast.Call)]


def keywords(call: ast.Call) -> dict[str, str]:
    return {word.arg: ast.unparse(word.value) for word in call.keywords if word.arg}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_file_of_ours_loads_what_may_run(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not UNSAFE_MODULES.intersection(modules), f"line {node.lineno}: {modules}"
        if isinstance(node, ast.ImportFrom) and node.module in CHECKED_BY_NAME:
            names = {alias.name for alias in node.names}
            assert not names & {"load", "save", "open", "run", "Popen", "unsafe_load"}, f"line {node.lineno}: {names}"
        if isinstance(node, ast.Import):
            short = {"numpy": "np", "torch": None, "yaml": None, "subprocess": None, "pickle": None}
            for alias in node.names:
                assert alias.asname == short.get(alias.name, alias.asname), f"line {node.lineno}: {alias.asname}"
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "pickle":
            assert node.attr == "UnpicklingError", f"line {node.lineno}: {ast.unparse(node)}"
        assert not (isinstance(node, ast.ImportFrom) and node.module == "pickle"), f"line {node.lineno}"
    for name, call in calls(tree):
        where = f"line {call.lineno}: {ast.unparse(call)}"
        given = keywords(call)
        assert name not in UNSAFE_CALLS, where
        if name == "torch.load":
            assert given.get("weights_only") == "True", where
        if name in ("np.load", "np.save", "numpy.load", "numpy.save"):
            assert given.get("allow_pickle") == "False", where
        if name == "yaml.load":
            assert ast.unparse(call.args[1]) == "_Loader", where
        if name == "Image.open":
            assert "formats" in given, where
        if name in ("subprocess.run", "subprocess.Popen"):
            assert given.get("shell", "False") == "False", where
        if name == "tempfile.mktemp":
            raise AssertionError(where)


def test_the_yaml_loader_is_a_safe_one() -> None:
    tree = ast.parse((ROOT / "pipeline/yaml_reader.py").read_text("utf-8"))
    (loader,) = (node for node in tree.body if isinstance(node, ast.ClassDef))
    assert [ast.unparse(base) for base in loader.bases] == ["yaml.SafeLoader"]


class Payload:
    """What makes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = str(target)

    def __reduce__(self):
        return os.mkdir, (self.target,)


def test_payloads_are_not_run_wherever_something_is_loaded(tmp_path: Path) -> None:
    target = tmp_path / "executed"
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    checkpoint = scratch / "checkpoint-00000-0000001.pt"
    for write in (torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))):
        write({"epoch": 0, "step": 1, "x": Payload(target)}, checkpoint)
        assert Checkpoints(scratch).load() is None

    buffer = io.BytesIO()
    np.save(buffer, np.array([Payload(target)], object), allow_pickle=True)
    (scratch / "raw-00000.npy").write_bytes(buffer.getvalue())
    (scratch / "raw-00000.sha256").write_text(hashlib.sha256(buffer.getvalue()).hexdigest())
    with pytest.raises(
        ValueError, match=r"allow_pickle=False|Object arrays cannot be loaded|Array can't be memory-mapped"
    ):
        RawShards(scratch).load(0)

    for name, write in (("a.pt", torch.save), ("b.pt", lambda value, path: path.write_bytes(pickle.dumps(value)))):
        write({"state_dict": Payload(target)}, tmp_path / name)
        with pytest.raises(InputError):
            read_tensors(tmp_path / name)
    assert not target.exists()

    for tag in ("!!python/object/apply:os.mkdir", "!!python/object/new:os.mkdir", "!!python/name:os.mkdir"):
        (tmp_path / "params.yaml").write_text(f"a: {tag} ['{target}']\n")
        with pytest.raises(ParamsError):
            read_yaml(tmp_path / "params.yaml")
    assert not target.exists()


TEMPLATES = sorted((ROOT / "pipeline").rglob("*.j2"))


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_templates_escape_everything_and_pages_forbid_the_rest(path: Path) -> None:
    text = path.read_text("utf-8")
    assert "|safe" not in text.replace(" ", "")
    assert "autoescape" not in text
    assert "<script" not in text
    assert not re.search(r"""\bon\w+=|(src|href)="?(https?:)?//""", text)
    if "<html" in text:
        (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', text)
        rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
        assert rules.pop("default-src") == "'none'"
        assert rules.pop("img-src", "data:") == "data:"
        assert rules == {"style-src": "'unsafe-inline'", "base-uri": "'none'", "form-action": "'none'"}


def test_yaml_cannot_grow(tmp_path: Path) -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [
        f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]"
        for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    ]
    (tmp_path / "params.yaml").write_text("\n".join(lines))
    with pytest.raises(ParamsError, match=r"line 2: aliases \(\*name\) are not read"):
        read_yaml(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("a: b\n" * 300_000)
    with pytest.raises(ParamsError, match="has more than 1000000 bytes"):
        read_yaml(tmp_path / "params.yaml")


ESCAPES = ["../../outside.png", "/tmp/outside.png", "train/../../outside.png", ".."]


@pytest.mark.parametrize("image_id", ESCAPES)
def test_ids_do_not_lead_out_of_their_folder(tmp_path: Path, image_id: str) -> None:
    rows = [ImageRow(image_id, "train", "x.png", 32, 32, "0" * 64, "ok")]
    write_images(tmp_path / "images.parquet", ImageTable(rows, Frame(32, "center"), 10**6, 1))
    with pytest.raises(InputError, match="leads out of its folder"):
        read_images(tmp_path / "images.parquet")

    with create_artifact(tmp_path / "evaluation") as writer:
        (writer.path / "label_maps").mkdir()
        row = {"image_id": image_id, "split": "train", "png": encode_labels(np.zeros((2, 2), np.int64))}
        pq.write_table(pa.Table.from_pylist([row], SCHEMA), writer.path / "label_maps/part-00000.parquet")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match="leads out of its folder"):
        apply_names(open_artifact(tmp_path / "evaluation"), Names("x", ("a",)), tmp_path / "named")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["../secret.txt", "/etc/passwd", "a/../../secret.txt"])
def test_manifests_do_not_lead_out_of_their_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    with create_artifact(tmp_path / "out") as writer:
        write_json(writer.path / "a.json", 1)
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    manifest["files"][name] = {"bytes": 6, "sha256": hashlib.sha256(b"secret").hexdigest()}
    (tmp_path / "out/manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="missing, though the manifest lists it"):
        open_artifact(tmp_path / "out")


def test_label_maps_are_bounded_before_they_are_decoded(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(bomb(60_000))
    with pytest.raises(InputError, match=r"a\.png: is 60000 x 60000, more than 268435456 pixels"):
        read_labels(path)


def test_temporary_files_are_private_and_results_follow_the_umask(tmp_path: Path) -> None:
    modes = []
    with create_artifact(tmp_path / "out") as writer:
        modes.append(stat.S_IMODE(writer.path.stat().st_mode))
        write_json(writer.path / "a.json", 1)
    assert modes == [0o700]
    umask = os.umask(0o077)
    os.umask(umask)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o777 & ~umask
    replace_file(tmp_path / "metrics.json", b"1")
    assert stat.S_IMODE((tmp_path / "metrics.json").stat().st_mode) == 0o666 & ~umask


def test_a_private_umask_is_kept(tmp_path: Path) -> None:
    code = (
        "import os; os.umask(0o077)\n"
        "from pathlib import Path\n"
        "from pipeline.runtime.artifacts import create_artifact, replace_file, write_json\n"
        "with create_artifact(Path('out')) as writer:\n"
        "    write_json(writer.path / 'a.json', 1)\n"
        "replace_file(Path('metrics.json'), b'1')\n"
    )

    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
    for name in ("out", "out/a.json", "metrics.json"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) & 0o077 == 0, name
