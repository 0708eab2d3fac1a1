"""The table of speeds: every part measures, beside what it says, on a machine without a GPU."""

from pathlib import Path

import pytest

from benchmarks.run import Result, network, recode, smoothing, video


def test_a_ratio_is_more_where_nst_ops_is_quicker() -> None:
    assert Result("frame", 1.0, 3.0).ratio == 3
    assert Result("smoothing", 0.5, 1.0, unit="s of a core").ratio == 2
    assert Result("rate", 10.0, 5.0, unit="frames/s").ratio == 2
    assert Result("copies", 10.0, unit="GB/s").ratio is None


@pytest.mark.slow
def test_commands_are_measured_beside_plain_loops(tmp_path: Path) -> None:
    results = [*recode(tmp_path, 5), *video("starry_night", tmp_path, 2)]
    assert len(results) >= 5
    assert all(result.ratio for result in results[:-1])
    assert {result.against for result in results} >= {"a plain PyAV loop", "bare stylizer", "a script by way of JPEGs"}


@pytest.mark.slow
def test_parts_are_measured_in_this_process() -> None:
    frames = {result.name: result for result in network("starry_night", 1)}
    assert list(frames) == ["network, 852x480", "network, 256x256"]
    assert all(float(result.note.split()[0]) > 38 for result in frames.values())  # the same picture
    assert [result.name.rpartition(" ")[2] for result in smoothing(1)] == ["gate", "ema", "window"]
