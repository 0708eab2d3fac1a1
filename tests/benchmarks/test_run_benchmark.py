"""The table of speeds: every part measures, beside what it says, on a machine without a GPU."""

import re
from pathlib import Path

import pytest
import torch

from benchmarks.bare_training import _features, _layers
from benchmarks.gpu.correctness import write_vgg
from benchmarks.run import Result, gpu, hd_video, images, network, recode, smoothing, training, video
from nst_ops.models.vgg import VGGFeatures


def test_a_ratio_is_more_where_nst_ops_is_quicker() -> None:
    assert Result("frame", 1.0, 3.0).ratio == 3
    assert Result("smoothing", 0.5, 1.0, unit="s of a core").ratio == 2
    assert Result("rate", 10.0, 5.0, unit="frames/s").ratio == 2
    assert Result("copies", 10.0, unit="GB/s").ratio is None


@pytest.mark.parametrize("padding", ["reflect", "zeros"])
def test_the_bare_loop_sees_what_ours_sees(tmp_path: Path, padding: str) -> None:
    vgg = VGGFeatures("vgg19", ["relu1_2", "relu3_1"], write_vgg(tmp_path, 14), padding)
    x_bchw = torch.rand(1, 3, 32, 40)
    for tap, activation in _features(_layers(vgg), vgg, x_bchw).items():
        torch.testing.assert_close(activation, vgg(x_bchw)[tap])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_nothing_is_said_of_one() -> None:
    assert list(gpu("starry_night")) == []


@pytest.mark.slow
def test_commands_are_measured_beside_plain_loops(tmp_path: Path) -> None:
    results = [*recode(tmp_path, 5), *video("starry_night", tmp_path, 2)]
    measured = [*hd_video("starry_night", tmp_path, 1), *images("anime_faces", tmp_path, 4), results[0]]
    for note in (result.note for result in measured):
        pattern = (
            r"decode [\d.]+, stylize [\d.]+, smooth [\d.]+, encode [\d.]+ s; [\d.]+ s of a core; "
            r"peak of its largest process ([\d,]+) MiB(; the other [\d.]+ s of a core)?"
        )
        found = re.fullmatch(pattern, note)
        assert found, note
        assert int(found[1].replace(",", "")) > 100
    assert len(results) >= 5
    assert all(result.ratio for result in results[:-1])
    assert {result.against for result in results} >= {"a plain PyAV loop", "bare stylizer", "a script by way of JPEGs"}


@pytest.mark.slow
def test_parts_are_measured_in_this_process(tmp_path: Path) -> None:
    frames = {result.name: result for result in network("starry_night", 1)}
    assert list(frames) == ["network, 852x480", "network, 256x256"]
    assert all(float(result.note.split()[0]) > 38 for result in frames.values())  # the same picture
    (trained,) = training(tmp_path, 1, 1)
    assert trained.ratio
    assert [result.name.rpartition(" ")[2] for result in smoothing(1)] == ["gate", "ema", "window"]
