import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.runtime.locks import hold

ROOT = Path(__file__).parents[2]
HOLDER = (
    "import sys, time; from pathlib import Path; from pipeline.runtime.locks import hold\n"
    "with hold(Path(sys.argv[1]), 'it', 0.0):\n"
    "    print('held', flush=True)\n"
    "    time.sleep(float(sys.argv[2]))"
)


def start_holder(lock: Path, seconds: float) -> subprocess.Popen:
    command = [sys.executable, "-c", HOLDER, str(lock), str(seconds)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    process.stdout.close()
    return process


@pytest.fixture
def holder(tmp_path):
    process = start_holder(tmp_path / "x.lock", 60)
    yield process
    process.kill()
    process.wait()


def test_another_process_is_waited_for_and_then_named(tmp_path, holder, caplog, monkeypatch):
    caplog.set_level(logging.INFO, "fs4")
    monkeypatch.setattr(logging.getLogger("fs4"), "propagate", True)
    started = time.monotonic()
    expected = (
        rf"data/x is being written by process {holder.pid}; wait until it ends, or stop it with `kill {holder.pid}`"
    )
    with pytest.raises(InputError, match=expected), hold(tmp_path / "x.lock", "data/x", 0.4):
        pytest.fail("the lock was given twice")
    assert 0.4 <= time.monotonic() - started < 10
    assert f"data/x is held by process {holder.pid}; waiting up to 0.4 s" in caplog.text


def test_a_killed_holder_frees_the_lock(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with hold(tmp_path / "x.lock", "it", 0.0):
        assert (tmp_path / "x.lock.pid").read_text() == f"{os.getpid()}\n"
    assert not (tmp_path / "x.lock.pid").exists()


def test_a_holder_that_ends_in_time_is_no_error(tmp_path):
    process = start_holder(tmp_path / "x.lock", 0.3)
    with hold(tmp_path / "x.lock", "it", 30.0):
        assert process.wait(timeout=10) == 0


def test_the_lock_is_freed_after_an_error(tmp_path):
    lock = tmp_path / "deep" / "x.lock"
    with pytest.raises(ZeroDivisionError), hold(lock, "it", 0.0):
        raise ZeroDivisionError
    with hold(lock, "it", 0.0):
        pass


def test_locks_of_other_folders_do_not_matter(tmp_path, holder):
    with hold(tmp_path / "y.lock", "it", 0.0):
        assert holder.poll() is None


def test_a_thread_of_the_same_process_has_to_wait_as_well(tmp_path):
    problems = []

    def try_it() -> None:
        try:
            with hold(tmp_path / "x.lock", "it", 0.1):
                pass
        except InputError as error:
            problems.append(str(error))

    with hold(tmp_path / "x.lock", "it", 0.0):
        thread = threading.Thread(target=try_it)
        thread.start()
        thread.join()
    assert len(problems) == 1
    assert f"process {os.getpid()}" in problems[0]


def test_a_folder_that_cannot_be_written_is_an_error_with_a_mend(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    command = [mount, "-t", "tmpfs", "-o", "size=64k,ro", "tmpfs", disk]
    if not mount or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        with pytest.raises(InputError, match=r"Read-only file system.*make the folder \S+ writable"):
            hold(disk / "x.lock", "it", 0.0).__enter__()
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_full_disk_is_left_to_the_writer_to_explain(tmp_path, monkeypatch):
    def fail(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", fail)
    with hold(tmp_path / "x.lock", "it", 0.0):
        pass


def test_a_lock_below_a_file_is_an_error_with_a_mend(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="cannot be written"), hold(tmp_path / "file" / "x.lock", "it", 0.0):
        pass
