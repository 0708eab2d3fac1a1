"""The training benchmark measures what it says."""

import pytest

from benchmarks.training_benchmark import benchmark_training


@pytest.mark.ray
@pytest.mark.slow
def test_every_figure_is_measured(cluster):
    figures = benchmark_training(image_size=32, batch_size=1, steps=8, threads=1, rounds=1, workers=1)
    speeds, ratios = figures["images_per_s"], figures["ratios"]
    assert set(speeds) == {"bare_loop", "one_worker"}
    assert ratios["one_worker_to_bare_loop"] == speeds["one_worker"] / speeds["bare_loop"]
    assert 0 <= ratios["data_wait_share"] < 1
    assert figures["whole_training"]["minutes_for_160k_images"] == pytest.approx(160_000 / speeds["one_worker"] / 60)
