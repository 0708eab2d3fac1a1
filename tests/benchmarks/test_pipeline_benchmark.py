"""The benchmark of the pipeline measures every figure."""

import pytest

from benchmarks.pipeline import benchmark


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_figure_is_measured() -> None:
    keys = {"num_frames": 8, "size": (64, 48), "minutes": 2, "videos": 3, "frame_rate": 4, "images": 2}
    figures = benchmark({"kind": "identity"}, **keys)
    assert set(figures) == {"overlap", "overlap_beside_cpu", "memory", "planning"}
    assert all(value >= 0 for section in figures.values() for value in section.values())
    assert figures["overlap_beside_cpu"]["stylize_s"] >= 8 * 0.02
    assert figures["memory"]["video_2_minutes_mib"] > 0
    assert figures["planning"]["planning_s"] < figures["planning"]["decoding_s"]
