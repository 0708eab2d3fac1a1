"""The loop: every step told, checkpoints when they are due, and an end or a new start at any of them."""

import copy
import io
import threading
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from nst_ops.config.training import TrainConfig
from nst_ops.storage import StorageFullError
from nst_ops.training import loop
from nst_ops.training.data import Batch, Batches, Crops, ImageSet
from nst_ops.training.loop import Speed, train
from nst_ops.training.optim import Ranks
from nst_ops.training.step import StepFigures


def batches(batch_size: int = 2) -> Batches:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 36, 36, 3), dtype=np.uint8)
    return Batches(ImageSet([pixels], [(0, row) for row in range(5)]), batch_size, 32, seed=0)


class Log:
    """A recorder that writes everything down, and judges as it is told to."""

    def __init__(self, validations: Sequence[float] = ()) -> None:
        self.told: list[tuple[str, int]] = []
        self.figures: list[StepFigures] = []
        self.states: list[dict[str, Any]] = []
        self.validations = list(validations)

    def step(self, number: int, figures: StepFigures, speed: Speed) -> None:
        self.told.append(("step", number))
        self.figures.append(figures)

    def validate(self, number: int) -> float:
        self.told.append(("validate", number))
        return self.validations.pop(0) if self.validations else -float(number)

    def save(self, number: int, state: dict[str, Any], speed: Speed) -> None:
        self.told.append(("save", number))
        self.states.append(copy.deepcopy(state))

    def numbers(self, what: str) -> list[int]:
        return [number for kind, number in self.told if kind == what]


class NoStep:
    """Stands for a step; learns nothing."""

    device = torch.device("cpu")

    def drawing(self, crops: Crops) -> None:
        """Nobody asks for it."""

    def __init__(self, ranks: Any = None) -> None:
        self.ranks = ranks or Ranks()
        self.restored: dict[str, Any] | None = None

    def start(
        self, images: torch.Tensor, number: int, styles: None = None, drawing: None = None
    ) -> Callable[[], StepFigures]:
        assert images.shape == (2, 3, 32, 32)
        return lambda: StepFigures(1.0, {}, 1.0, 0.1, False)

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        self.restored = state


def config(steps: int, save_every: int = 250, **changes: Any) -> TrainConfig:
    return TrainConfig(steps=steps, save_every=save_every, batch_size=2, image_size=32, **changes)


def test_steps_are_recorded_and_checkpoints_come_in_time():
    log = Log()
    train(NoStep(), batches(), config(steps=7, save_every=3), log)
    assert log.numbers("step") == [1, 2, 3, 4, 5, 6, 7]
    assert log.numbers("validate") == log.numbers("save") == [3, 6, 7]
    assert log.told[2:6] == [("step", 3), ("validate", 3), ("save", 3), ("step", 4)]


def test_a_device_gets_the_next_step_before_it_is_asked_for_figures():
    told = []

    class Late(NoStep):
        device = torch.device("meta")  # takes work as a GPU does, and does none

        def start(self, images: torch.Tensor, number: int, *_: None) -> Callable[[], StepFigures]:
            told.append(f"start {number}")
            figures = super().start(images, number)
            return lambda: told.append(f"figures {number}") or figures()

    log = Log()
    train(Late(), batches(), config(steps=7, save_every=6), log)
    first = [f"{what} {number}" for what, number in (("start", 1), ("start", 2), ("figures", 1), ("start", 3))]
    then = ["figures 2", "figures 3", "start 4", "start 5", "figures 4", "start 6", "figures 5", "figures 6"]
    assert told == [*first, *then, "start 7", "figures 7"]
    assert log.told[5:] == [("step", 6), ("validate", 6), ("save", 6), ("step", 7), ("validate", 7), ("save", 7)]


def test_the_last_step_is_saved_once():
    log = Log()
    train(NoStep(), batches(), config(steps=6, save_every=3), log)
    assert log.numbers("save") == [3, 6]


def test_nobody_need_be_told():
    train(NoStep(), batches(), config(steps=3, save_every=2))


def test_a_plateau_ends_it():
    log = Log([5.0, 3.0, 3.0, 4.0, 1.0])
    train(NoStep(), batches(), config(steps=20, save_every=2, early_stop=2), log)
    assert log.numbers("validate") == log.numbers("save") == [2, 4, 6, 8]
    assert log.numbers("step")[-1] == 8
    assert [state["stopped"] for state in log.states] == [False, False, False, True]


def test_a_loss_that_is_not_a_number_is_no_progress():
    log = Log([5.0, float("nan"), float("nan")])
    train(NoStep(), batches(), config(steps=20, save_every=2, early_stop=2), log)
    assert log.numbers("save") == [2, 4, 6]


def test_a_plateau_outlasts_a_stop():
    log, again = Log([1.0, 3.0]), Log([2.0, 0.5])
    train(NoStep(), batches(), config(steps=4, save_every=2, early_stop=2), log)
    train(NoStep(), batches(), config(steps=20, save_every=2, early_stop=2), again, log.states[-1])
    assert again.numbers("save") == [6]


@pytest.mark.parametrize("stopped", [False, True])
def test_there_is_nothing_to_do_where_it_is_done(stopped):
    """At the last step, or where a plateau was reached before a worker was lost."""
    log, again = Log([1.0, 2.0]), Log()
    train(NoStep(), batches(), config(steps=4, save_every=2, early_stop=1 if stopped else None), log)
    assert log.states[-1]["stopped"] == stopped
    steps = 20 if stopped else 4
    train(NoStep(), batches(), config(steps=steps, save_every=2, early_stop=1), again, log.states[-1])
    assert again.told == []


def test_taken_up_again_it_goes_on_as_if_never_stopped(new_step):
    settings = {"steps": 8, "save_every": 3, "ema_decay": 0.9, "warmup": 0.25}
    whole, before, after = Log(), Log(), Log()
    uninterrupted, stopped, taken_up = (new_step({"noise": {"weight": 1.0}}, **settings) for _ in range(3))
    train(uninterrupted, batches(), uninterrupted.config, whole)

    class Killed(Exception):
        pass

    def killed(number: int, figures: StepFigures, speed: Speed) -> None:
        before.told.append(("step", number))
        if number == 5:
            raise Killed

    before.step = killed
    with pytest.raises(Killed):
        train(stopped, batches(), stopped.config, before)
    file = io.BytesIO()
    torch.save(before.states[-1], file)
    file.seek(0)
    train(taken_up, batches(), taken_up.config, after, torch.load(file, weights_only=True))
    assert after.numbers("step") == [4, 5, 6, 7, 8]
    assert after.figures == whole.figures[3:]
    for now, then in zip(taken_up.averaged.parameters(), uninterrupted.averaged.parameters(), strict=True):
        assert torch.equal(now, then)
    assert {key: after.states[-1][key] for key in ("done", "best", "waited")} == {"done": 8, "best": -8.0, "waited": 0}


@pytest.mark.parametrize("where", ["validate", "save"])
def test_a_full_disk_ends_it(where):
    def full(*_: object) -> float:
        raise StorageFullError("no space left on /out")

    log, threads = Log(), threading.active_count()
    setattr(log, where, full)
    with pytest.raises(StorageFullError, match="/out"):
        train(NoStep(), batches(), config(steps=5, save_every=2), log)
    assert log.numbers("step") == [1, 2]
    assert threading.active_count() == threads


@pytest.mark.parametrize(
    ("validations", "done"), [([False, False, False], 6), ([False, True], 4), ([StorageFullError("full")], 2)]
)
def test_other_workers_do_as_the_first(validations, done):
    taken = []

    class Second(NoStep):
        def start(self, images: torch.Tensor, number: int, *_: None) -> Callable[[], StepFigures]:
            taken.append(number)
            return super().start(images, number)

    asked = list(validations)
    step = Second(SimpleNamespace(share=lambda own: asked.pop(0)))
    fails = isinstance(validations[-1], StorageFullError)
    try:
        train(step, batches(), config(steps=6, save_every=2))
    except StorageFullError:
        assert fails
    else:
        assert not fails
    assert taken == list(range(1, done + 1))


class Clock:
    """Time that passes only where it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


def test_speed_is_that_of_the_steps_after_the_first(monkeypatch):
    """Without the time that checkpoints take."""
    clock = Clock()
    monkeypatch.setattr(loop, "time", clock)

    class Timed(NoStep):
        def start(self, images: torch.Tensor, number: int, *_: None) -> Callable[[], StepFigures]:
            clock.now += 50 if number <= 3 else 0.5
            return super().start(images, number)

    class Slow(Log):
        def __init__(self) -> None:
            super().__init__()
            self.speeds: list[float] = []

        def step(self, number: int, figures: StepFigures, speed: Speed) -> None:
            self.speeds.append(round(speed.images_per_s, 6))

        def save(self, number: int, state: dict[str, Any], speed: Speed) -> None:
            clock.now += 1000

    log = Slow()
    speed = train(Timed(), batches(), config(steps=12, save_every=2), log)
    assert speed.images_per_s == pytest.approx(4.0)
    assert log.speeds == [0.04] * 3 + [4.0] * 9


def test_a_share_of_the_time_is_spent_waiting_for_images():
    class Late(Batches):
        def __call__(self, step: int) -> Batch:
            threading.Event().wait(0.05)
            return super().__call__(step)

    source = batches()
    late = Late(source.content, 2, 32, seed=0)
    assert 0.7 < train(NoStep(), late, config(steps=8)).data_wait_share <= 1.0


def test_the_shortest_run_has_a_speed():
    assert train(NoStep(), batches(), config(steps=1)).images_per_s > 0
    assert Speed().images_per_s == Speed().data_wait_share == 0
