import logging
import os
import pickle
from pathlib import Path

import pytest
import torch

from pipeline.training.checkpoints import KEEP, Checkpoints


@pytest.fixture(autouse=True)
def _heard(caplog, monkeypatch):
    caplog.set_level(logging.INFO, "fs4")
    monkeypatch.setattr(logging.getLogger("fs4"), "propagate", True)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_state_comes_back_as_it_was(tmp_path):
    weights = torch.rand(2, 3, 4, 4).to(memory_format=torch.channels_last)
    state = {"model": {"w": weights}, "rows": [{"loss": 0.1}], "half": torch.rand(3).bfloat16(), "none": None}
    Checkpoints(tmp_path).save(3, 17, state)
    loaded = Checkpoints(tmp_path).load()
    assert (loaded["epoch"], loaded["step"]) == (3, 17)
    assert torch.equal(loaded["model"]["w"], weights)
    assert torch.equal(loaded["half"], state["half"])
    assert loaded["rows"] == [{"loss": 0.1}]
    assert names(tmp_path) == ["checkpoint-00003-0000017.pt"]


def test_the_newest_two_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for epoch, step in [(0, 9), (0, 10), (1, 0), (2, 0), (10, 0)]:
        checkpoints.save(epoch, step, {"value": 100 * epoch + step})
        assert checkpoints.load()["value"] == 100 * epoch + step
    assert names(tmp_path) == ["checkpoint-00002-0000000.pt", "checkpoint-00010-0000000.pt"]
    assert len(names(tmp_path)) == KEEP


@pytest.mark.parametrize("length", [0, 1, 100, -1])
def test_a_truncated_file_is_passed_over_with_a_line(tmp_path, caplog, length):
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2):
        checkpoints.save(0, step, {"value": torch.full((1000,), float(step))})
    newest = tmp_path / names(tmp_path)[-1]
    newest.write_bytes(newest.read_bytes()[:length])
    assert checkpoints.load()["step"] == 1
    assert "checkpoint-00000-0000002.pt cannot be read (" in caplog.text
    assert "going on from checkpoint-00000-0000001.pt" in caplog.text


def test_a_damaged_file_is_not_one_of_the_two_that_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for epoch in (1, 2):
        checkpoints.save(epoch, 0, {})
    (tmp_path / "checkpoint-00002-0000000.pt").write_bytes(b"torn")
    assert checkpoints.load()["epoch"] == 1
    checkpoints.save(1, 5, {})
    assert names(tmp_path) == ["checkpoint-00001-0000000.pt", "checkpoint-00001-0000005.pt"]


@pytest.mark.parametrize(("every_steps", "due"), [(0, []), (1, [1, 2, 3, 4, 5]), (2, [2, 4]), (3, [3]), (7, [])])
def test_within_an_epoch_some_steps_are_due(tmp_path, every_steps, due):
    checkpoints = Checkpoints(tmp_path, every_steps)
    assert [step for step in range(1, 7) if checkpoints.are_due(step, 6)] == due


def test_without_a_readable_file_there_is_no_state(tmp_path):
    assert Checkpoints(tmp_path).load() is None
    assert Checkpoints(tmp_path / "absent").load() is None
    (tmp_path / "checkpoint-00000-0000001.pt").write_bytes(b"garbage")
    (tmp_path / "checkpoint-00000-0000002.pt").write_bytes(bytes(1000))
    assert Checkpoints(tmp_path).load() is None


class Payload:
    def __reduce__(self):
        return os.mkdir, (os.environ["PAYLOAD_TARGET"],)


def test_a_flipped_bit_is_found_wherever_it_is(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(0, 1, {"value": torch.zeros(20)})
    checkpoints.save(0, 2, {"value": torch.zeros(20)})
    newest = tmp_path / names(tmp_path)[-1]
    data = newest.read_bytes()
    for place in range(0, len(data), 7):
        newest.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        state = checkpoints.load()
        assert state["step"] in (1, 2)  # a bit that nobody reads may be flipped
        assert not state["value"].any()


@pytest.mark.parametrize("write", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_code_in_a_checkpoint_is_not_run(tmp_path, monkeypatch, write):
    target = tmp_path / "executed"
    monkeypatch.setenv("PAYLOAD_TARGET", str(target))
    checkpoints = Checkpoints(tmp_path / "state")
    checkpoints.save(0, 1, {"value": 1})
    write({"value": Payload()}, tmp_path / "state" / "checkpoint-00000-0000002.pt")
    assert checkpoints.load()["value"] == 1
    assert not target.exists()


def test_a_failed_save_leaves_the_ones_before(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(0, 1, {"value": 1})

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        checkpoints.save(0, 2, {"value": 2})
    assert names(tmp_path) == ["checkpoint-00000-0000001.pt"]
