import logging
import math
from collections.abc import Iterator

import pytest
import torch

from pipeline.errors import TrainingError
from pipeline.runtime.interrupts import Interrupted, StopSignal
from pipeline.runtime.randomness import generator
from pipeline.training.checkpoints import Checkpoints
from pipeline.training.curves import Curves
from pipeline.training.loop import MAX_BAD_STEPS, Batches, run_epochs

EPOCHS, STEPS, IMAGES = 3, 4, 8
LOG = logging.getLogger("fs4.test")


class Toy:
    """A regression with state that only `begin_epoch` makes, statistics as in batch norm, and varying rates."""

    def __init__(self, bad: set[tuple[int, int]] | None = None) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.net = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 1))
        parameters = list(self.net.parameters())
        groups = [{"params": parameters[:2], "lr": 0.1}, {"params": parameters[2:], "lr": 0.01}]
        self.optimizer: torch.optim.Optimizer = torch.optim.AdamW(groups)
        self.target = torch.zeros(1)
        self.begun: list[int] = []
        self.rates: list[list[float]] = []
        self.bad = bad or set()
        self.step = 0

    def epoch_batches(self, epoch: int) -> Batches:
        order = generator(0, "toy", epoch).permutation(IMAGES).tolist()
        return [order[i : i + IMAGES // STEPS] for i in range(0, IMAGES, IMAGES // STEPS)]

    def begin_epoch(self, epoch: int) -> None:
        self.begun.append(epoch)
        self.step = 0
        self.target = self.net[2].weight.detach().sum().reshape(1) + epoch
        self.net(torch.ones(4, 3))

    def losses(self, epoch: int, indices: list[int], images: torch.Tensor, progress: float) -> dict[str, torch.Tensor]:
        self.rates.append([group["lr"] for group in self.optimizer.param_groups])
        loss = (self.net(images.float().mean((2, 3))) - self.target).square().mean()
        if (epoch, self.step) in self.bad:
            loss = loss * math.nan
        self.step += 1
        return {"loss": loss, "twice": 2 * loss}

    def learning_rate_factor(self, progress: float) -> float:
        return 1.0 - 0.5 * progress

    def end_epoch(self, epoch: int, means: dict[str, float]) -> dict[str, float]:
        return {**means, "learning_rate": self.optimizer.param_groups[0]["lr"]}

    def state_dict(self) -> dict:
        return {"net": self.net.state_dict(), "target": self.target}

    def load_state_dict(self, state: dict) -> None:
        self.net.load_state_dict(state["net"])
        self.target = state["target"]


class Killed(BaseException):
    """Stands for SIGKILL: nobody gets to do anything any more."""


class Loader:
    """Gives images, and asks for a stop while the step number `stop_at` is under way, or is killed in its place."""

    def __init__(self, stop: StopSignal, stop_at: int | None = None, kill_at: int | None = None) -> None:
        self.stop, self.stop_at, self.kill_at, self.given = stop, stop_at, kill_at, 0

    def __call__(self, batches: Batches) -> Iterator[tuple[list[int], torch.Tensor]]:
        for batch in batches:
            self.given += 1
            if self.given == self.stop_at:
                self.stop._receive(15, None)
            if self.given == self.kill_at:
                raise Killed
            images = [generator(1, "image", index).integers(0, 256, (3, 2, 2)) for index in batch]
            yield batch, torch.stack([torch.from_numpy(image).to(torch.uint8) for image in images])


def train(folder, toy: Toy, stop_at: int | None = None, *, kill_at: int | None = None, every_steps: int = 0) -> Curves:
    stop, curves = StopSignal(), Curves(None)
    loader, checkpoints = Loader(stop, stop_at, kill_at), Checkpoints(folder, every_steps)
    run_epochs(toy, epochs=EPOCHS, load=loader, checkpoints=checkpoints, curves=curves, stop=stop, log=LOG)
    return curves


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Toy, Curves]:
    toy = Toy()
    return toy, train(tmp_path_factory.mktemp("whole"), toy)


def assert_same(toy: Toy, curves: Curves, whole: tuple[Toy, Curves]) -> None:
    for value, expected in zip(toy.net.state_dict().values(), whole[0].net.state_dict().values(), strict=True):
        assert torch.equal(value, expected)
    assert curves.rows == whole[1].rows


@pytest.mark.parametrize("stop_at", range(1, EPOCHS * STEPS + 1))
def test_stopped_after_any_step_and_resumed_is_the_same_bit_for_bit(tmp_path, whole, stop_at):
    with pytest.raises(Interrupted, match="SIGTERM"):
        train(tmp_path, Toy(), stop_at)
    assert Checkpoints(tmp_path).load()["step"] == (stop_at - 1) % STEPS + 1
    resumed = Toy()
    curves = train(tmp_path, resumed)
    assert_same(resumed, curves, whole)
    first = (stop_at - 1) // STEPS
    assert resumed.begun == list(range(first + 1, EPOCHS))


def test_stopped_after_every_step_is_still_the_same(tmp_path, whole):
    for _ in range(EPOCHS * STEPS):
        with pytest.raises(Interrupted):
            train(tmp_path, Toy(), 1)
    resumed = Toy()
    assert_same(resumed, train(tmp_path, resumed), whole)


@pytest.mark.parametrize("kill_at", range(2, EPOCHS * STEPS + 1))
@pytest.mark.parametrize("every_steps", [1, 3])
def test_killed_in_any_step_only_the_steps_since_the_last_checkpoint_are_lost(tmp_path, whole, kill_at, every_steps):
    with pytest.raises(Killed):
        train(tmp_path, Toy(), kill_at=kill_at, every_steps=every_steps)
    epoch, step = divmod(kill_at - 1, STEPS)
    expected = (epoch, step // every_steps * every_steps)
    if expected == (0, 0):
        assert Checkpoints(tmp_path).load() is None
    else:
        state = Checkpoints(tmp_path).load()
        assert (state["epoch"], state["step"]) == expected
    assert len(list(tmp_path.iterdir())) <= 2
    resumed = Toy()
    assert_same(resumed, train(tmp_path, resumed, every_steps=every_steps), whole)


def test_checkpoints_within_an_epoch_change_nothing(tmp_path, whole):
    toy = Toy()
    assert_same(toy, train(tmp_path, toy, every_steps=2), whole)


def test_bad_steps_before_an_interruption_count_after_it(tmp_path):
    bad = {(1, step) for step in range(MAX_BAD_STEPS)}
    with pytest.raises(Interrupted):
        train(tmp_path, Toy(bad=bad), STEPS + 2)
    resumed = Toy(bad={(1, 0)})  # the toy counts its steps from the resumption
    with pytest.raises(TrainingError, match=r"in 3 steps in a row \(epoch 2, step 3\)"):
        train(tmp_path, resumed)


def test_a_truncated_newest_checkpoint_costs_only_the_steps_since(tmp_path, whole):
    for stop_at in (6, 1):
        with pytest.raises(Interrupted):
            train(tmp_path, Toy(), stop_at)
    newest = sorted(tmp_path.iterdir())[-1]
    newest.write_bytes(newest.read_bytes()[:200])
    resumed = Toy()
    assert_same(resumed, train(tmp_path, resumed), whole)


def test_a_finished_run_is_not_trained_again(tmp_path, whole):
    train(tmp_path, Toy())
    assert len(list(tmp_path.iterdir())) == 2
    again = Toy()
    assert_same(again, train(tmp_path, again), whole)
    assert again.rates == []


def test_rates_follow_the_schedule_from_their_own_start(whole):
    rates = whole[0].rates
    assert len(rates) == EPOCHS * STEPS
    for step, (first, second) in enumerate(rates):
        factor = 1 - 0.5 * step / (EPOCHS * STEPS)
        assert first == pytest.approx(0.1 * factor)
        assert second == pytest.approx(0.01 * factor)


def test_rows_are_means_over_the_steps(whole):
    assert len(whole[1].rows) == EPOCHS
    for row in whole[1].rows:
        assert list(row) == ["loss", "twice", "learning_rate"]
        assert row["twice"] == pytest.approx(2 * row["loss"])


def test_single_bad_steps_change_nothing_and_do_not_count(tmp_path):
    toy = Toy(bad={(0, 1), (0, 2), (1, 0), (1, 2)})
    curves = train(tmp_path, toy)
    assert all(math.isfinite(value) for row in curves.rows for value in row.values())
    assert all(torch.isfinite(value).all() for value in toy.net.state_dict().values())


def test_a_bad_step_leaves_the_parameters_as_they_were(tmp_path):
    toy = Toy(bad={(0, step) for step in range(2)})
    before = [value.clone() for value in toy.net.parameters()]
    with pytest.raises(Interrupted):
        train(tmp_path, toy, 2)
    assert all(torch.equal(value, old) for value, old in zip(toy.net.parameters(), before, strict=True))


def test_three_bad_steps_in_a_row_stop_with_advice_and_keep_what_was_good(tmp_path):
    bad = {(1, step) for step in range(MAX_BAD_STEPS)}
    with pytest.raises(TrainingError, match=r"in 3 steps in a row \(epoch 2, step 3\); lower the learning rate"):
        train(tmp_path, Toy(bad=bad))
    state = Checkpoints(tmp_path).load()
    assert (state["epoch"], state["step"]) == (1, 0)
