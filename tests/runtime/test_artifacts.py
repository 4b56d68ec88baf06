import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.runtime.artifacts import (
    MANIFEST,
    create_artifact,
    open_artifact,
    recover_artifact,
    replace_file,
    write_json,
)
from pipeline.runtime.digests import file_digest

ROOT = Path(__file__).parents[2]


def build(out: Path, text: str = "new", **unlisted) -> Path:
    with create_artifact(out, **unlisted) as writer:
        (writer.path / "a.txt").write_text(text)
        (writer.path / "part" / "level=1").mkdir(parents=True)
        (writer.path / "part" / "level=1" / "b.bin").write_bytes(bytes(range(50)))
        writer.rows["a.txt"] = 7
        writer.notes["stage"] = "toy"
    return out


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_finished_folder_lists_what_it_holds(tmp_path):
    artifact = open_artifact(build(tmp_path / "deep" / "out"))
    path = tmp_path / "deep" / "out" / "a.txt"
    assert artifact.manifest["files"]["a.txt"] == {"bytes": 3, "sha256": file_digest(path), "rows": 7}
    assert set(artifact.manifest["files"]) == {"a.txt", "part/level=1/b.bin"}
    assert artifact.file("a.txt") == path
    assert artifact.files("part/*/*.bin") == [tmp_path / "deep" / "out" / "part" / "level=1" / "b.bin"]
    assert artifact.files("*.none") == []
    assert names(tmp_path / "deep") == ["out"]
    assert (tmp_path / "deep" / "out").stat().st_mode & 0o777 == 0o755


def test_the_manifest_is_the_same_bytes_each_time(tmp_path):
    one, two = build(tmp_path / "one"), build(tmp_path / "two")
    assert (one / MANIFEST).read_bytes() == (two / MANIFEST).read_bytes()
    assert (build(tmp_path / "two", "other") / MANIFEST).read_bytes() != (one / MANIFEST).read_bytes()


def test_a_new_folder_replaces_the_old_one_whole(tmp_path):
    out = build(tmp_path / "out", "old")
    with create_artifact(out) as writer:
        (writer.path / "c.txt").write_text("c")
        assert open_artifact(out).file("a.txt").read_text() == "old"
    assert names(out) == ["c.txt", MANIFEST]


def test_an_error_leaves_the_old_folder_and_nothing_else(tmp_path):
    out = build(tmp_path / "out", "old")
    with pytest.raises(ZeroDivisionError), create_artifact(out) as writer:
        (writer.path / "a.txt").write_text("half")
        raise ZeroDivisionError
    assert names(tmp_path) == ["out"]
    assert open_artifact(out).file("a.txt").read_text() == "old"


def test_a_writer_killed_in_mid_write_leaves_the_old_folder(tmp_path):
    out = build(tmp_path / "out", "old")
    code = (
        "import sys, time; from pathlib import Path; from pipeline.runtime.artifacts import create_artifact\n"
        "with create_artifact(Path(sys.argv[1])) as writer:\n"
        "    (writer.path / 'a.txt').write_text('half')\n"
        "    print('writing', flush=True)\n"
        "    time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, out], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "writing\n"
        process.send_signal(signal.SIGKILL)
    assert len(names(tmp_path)) == 2
    assert open_artifact(out).file("a.txt").read_text() == "old"
    build(out)
    assert names(tmp_path) == ["out"]
    assert open_artifact(out).file("a.txt").read_text() == "new"


def test_a_crash_between_the_two_renames_is_mended(tmp_path):
    out = build(tmp_path / "out", "old")
    out.rename(tmp_path / ".out.old")
    with pytest.raises(InputError, match="no finished output here"):
        open_artifact(out)
    recover_artifact(out)
    assert names(tmp_path) == ["out"]
    assert open_artifact(out).file("a.txt").read_text() == "old"


def test_a_crash_after_the_second_rename_keeps_the_new_folder(tmp_path):
    out = build(tmp_path / "out")
    build(tmp_path / "other", "old").rename(tmp_path / ".out.old")
    (tmp_path / ".out.tmp-x").mkdir()
    recover_artifact(out)
    assert names(tmp_path) == ["out"]
    assert open_artifact(out).file("a.txt").read_text() == "new"
    recover_artifact(tmp_path / "no" / "such")


MEND = r"rebuild it with `dvc repro --force --single-item toy`"


def test_surplus_and_missing_files_are_named(tmp_path):
    out = build(tmp_path / "out")
    (out / "part" / "stray.txt").write_text("x")
    with pytest.raises(InputError, match=rf"part/stray\.txt: not listed in the manifest.*remove it, or {MEND}"):
        open_artifact(out)
    (out / "part" / "stray.txt").unlink()
    artifact = open_artifact(out)
    (out / "a.txt").unlink()
    with pytest.raises(InputError, match=rf"a\.txt: missing, though the manifest lists it; {MEND}"):
        artifact.file("a.txt")
    with pytest.raises(InputError, match=rf"a\.txt: missing, though the manifest lists it; {MEND}"):
        open_artifact(out)
    with pytest.raises(InputError, match=rf"c\.txt: not listed in .*{MANIFEST}; {MEND}"):
        artifact.file("c.txt")


@pytest.mark.parametrize("damage", ["truncated", "longer", "flipped"])
def test_altered_files_are_refused_when_they_are_opened(tmp_path, damage):
    out = build(tmp_path / "out")
    path = out / "part" / "level=1" / "b.bin"
    data = path.read_bytes()
    flipped = bytes([data[0] ^ 1]) + data[1:]
    path.write_bytes({"truncated": data[:-1], "longer": data + b"x", "flipped": flipped}[damage])
    artifact = open_artifact(out)
    assert artifact.file("a.txt").is_file()
    with pytest.raises(InputError, match=rf"b\.bin: differs from its digest in the manifest .*{MEND}"):
        artifact.files("part/*/*")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"files": 3}', "{}", "\xff"])
def test_a_damaged_manifest_is_refused(tmp_path, text):
    out = build(tmp_path / "out")
    (out / MANIFEST).write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"manifest\.json: not a valid manifest .*rebuild the folder"):
        open_artifact(out)


def test_a_folder_without_manifest_is_not_finished(tmp_path):
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(InputError, match=r"no finished output here.*run `dvc repro` first"):
            open_artifact(folder)


def test_unlisted_parts_do_not_touch_the_manifest(tmp_path):
    out = tmp_path / "out"
    with create_artifact(out, unlisted=("truth.txt", "masks")) as writer:
        (writer.path / "a.txt").write_text("a")
    before = (out / MANIFEST).read_bytes()
    with create_artifact(out, unlisted=("truth.txt", "masks")) as writer:
        (writer.path / "a.txt").write_text("a")
        (writer.path / "truth.txt").write_text("label")
        (writer.path / "masks").mkdir()
        (writer.path / "masks" / "m.png").write_bytes(b"label")
    assert (out / MANIFEST).read_bytes() == before
    artifact = open_artifact(out)
    assert set(artifact.manifest["files"]) == {"a.txt"}
    (out / "masks" / "n.png").write_bytes(b"more")
    open_artifact(out)


@pytest.fixture
def small_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    command = [mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk]
    if not mount or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small file system")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_is_explained_and_the_old_folder_stays(small_disk):
    out = build(small_disk / "out", "old")
    with pytest.raises(InputError, match=r"out: cannot be written \(No space left.*, \d+ MB free\)"):
        build(out, "x" * 2_000_000)
    assert names(small_disk) == ["out"]
    assert open_artifact(out).file("a.txt").read_text() == "old"
    build(out)
    assert open_artifact(out).file("a.txt").read_text() == "new"


def test_a_read_only_disk_is_explained_and_the_old_folder_stays(small_disk):
    out = build(small_disk / "out", "old")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(InputError, match=r"cannot be written \(Read-only file system, \d+ MB free\); .*writable"):
        build(out)
    with pytest.raises(InputError, match=r"cannot be written \(Read-only file system, \d+ MB free\)"):
        build(small_disk / "deep" / "er" / "out")
    assert names(small_disk) == ["out"]
    assert open_artifact(out).file("a.txt").read_text() == "old"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_parent_is_explained(tmp_path):
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(InputError, match=r"cannot be written \(Permission denied, \d+ MB free\)"):
            build(tmp_path / "out")
    finally:
        tmp_path.chmod(0o755)


def test_equal_values_are_equal_json(tmp_path):
    write_json(tmp_path / "one.json", {"b": 1, "a": [1.5, "é"]})
    write_json(tmp_path / "two.json", {"a": [1.5, "é"], "b": 1})
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    assert "é" in (tmp_path / "one.json").read_text("utf-8")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "one.json", {"a": float("nan")})


def test_a_single_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "metrics.json"
    replace_file(path, b"one")
    replace_file(path, b"two")
    assert path.read_bytes() == b"two"

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        replace_file(path, b"three")
    assert path.read_bytes() == b"two"
    assert names(path.parent) == ["metrics.json"]
