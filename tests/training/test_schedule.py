"""The learning rate over a run."""

import itertools

import pytest

from nst_ops.config.training import TrainConfig
from nst_ops.training.optim import learning_rate


def rates(**train: object) -> list[float]:
    """Return the rate of every step, as a share of the peak rate."""
    config = TrainConfig(**{"learning_rate": 0.004, **train})
    return [learning_rate(step, config) / 0.004 for step in range(1, config.steps + 1)]


@pytest.mark.parametrize("schedule", ["cosine", "step", "constant"])
def test_the_warm_up_rises_in_even_steps_to_the_peak(schedule):
    warming, after = (part := rates(steps=100, warmup=0.2, schedule=schedule))[:20], part[20]
    assert warming == pytest.approx([(step + 1) / 20 for step in range(20)])
    assert after == pytest.approx(1.0)


def test_without_warm_up_the_first_step_has_the_peak_rate():
    assert rates(steps=100, warmup=0)[0] == 1.0


def test_cosine_falls_all_the_way_to_nearly_nothing():
    falling = rates(steps=1000, warmup=0.1)[100:]
    assert all(later < earlier for earlier, later in itertools.pairwise(falling))
    assert 0 < falling[-1] < 1e-5
    assert falling[450] == pytest.approx(0.5, abs=0.01)


def test_step_falls_to_a_tenth_at_half_and_at_three_quarters():
    assert rates(steps=8, warmup=0, schedule="step") == pytest.approx([1] * 4 + [0.1] * 2 + [0.01] * 2)


def test_constant_stays():
    assert rates(steps=10, warmup=0, schedule="constant") == [1.0] * 10


@pytest.mark.parametrize("schedule", ["cosine", "step", "constant"])
@pytest.mark.parametrize("warmup", [0, 0.1, 0.9])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_shortest_runs_have_a_rate(steps, warmup, schedule):
    assert all(0 < rate <= 1 for rate in rates(steps=steps, warmup=warmup, schedule=schedule))
