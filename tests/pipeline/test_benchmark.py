from benchmarks.pipeline_benchmark import benchmark


def test_the_benchmark_measures_every_figure() -> None:
    figures = benchmark({"kind": "identity"}, num_frames=8, size=(64, 48), minutes=2, films=3, frame_rate=1)
    assert set(figures) == {"overlap", "overlap_beside_cpu", "memory", "planning"}
    assert all(value >= 0 for section in figures.values() for value in section.values())
    assert figures["overlap_beside_cpu"]["stylize_s"] >= 8 * 0.02
    assert figures["memory"]["film_2_minutes_mib"] > 0
    assert figures["planning"]["planning_s"] < figures["planning"]["decoding_s"]
