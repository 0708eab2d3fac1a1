"""Comparing the smoothing modes of a stylizer: figures, plot, strips."""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from job_runner import write_image
from media_factory import natural_image, write_video
from PIL import Image
from vgg_factory import write_vgg19

from benchmarks.smoothing import SmoothingBenchmarkConfig, compare_modes, named_style, smoothing_versions
from nst_ops.config import ConfigError, ModelConfig

NUM_FRAMES = 12


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Frames are tiny: more threads would only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``style.png``, ``vgg.safetensors`` and ``pan.mp4``."""
    folder = tmp_path_factory.mktemp("inputs")
    write_image(folder / "style.png", 40, 32)
    write_vgg19(folder / "vgg.safetensors")
    write_video(folder / "pan.mp4", pan())
    return folder


def pan() -> list[np.ndarray]:
    around = np.asarray(natural_image("astronaut", 64 + NUM_FRAMES, 48)) // 2 + 64
    return [np.ascontiguousarray(around[:, t : t + 64]) for t in range(NUM_FRAMES)]


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory, inputs: Path) -> Path:
    """The benchmark of a stylizer that changes nothing, on a noisy clip among others."""
    output = tmp_path_factory.mktemp("compared")
    compare_modes(benchmark(output, inputs, videos=str(inputs / "pan.mp4")))
    return output


def benchmark(output: Path, inputs: Path, **keys: object) -> SmoothingBenchmarkConfig:
    given = {
        "output": str(output),
        "style": str(inputs / "style.png"),
        "model": {"kind": "identity", "device": "cpu"},
        "vgg": {"weights": str(inputs / "vgg.safetensors")},
        "taps": ["relu1_1"],
        "ema_weights": [0.5],
        "window_radii": [1],
        "num_frames": 12,
        "max_side": 64,
        "cost_size": [64, 48],
    }
    return SmoothingBenchmarkConfig(**given | keys)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ({"checkpoint": "styles"}, "starry_night"),
        ({"checkpoint": "the_scream"}, "the_scream"),
        ({"kind": "identity"}, ""),
    ],
)
def test_a_network_of_many_styles_is_in_the_one_it_is_named_by(model: dict[str, str], name: str) -> None:
    style = named_style(ModelConfig.model_validate(model))
    assert (style.name if style else "") == name


def test_every_mode_is_measured_on_every_clip(compared: Path) -> None:
    found = json.loads((compared / "stability.json").read_text())
    assert found["default"] == "window ±3"
    names = ["per frame", "gate 0.7", "ema 0.5", "window ±1", "window ±3"]
    assert len(found["by_clip"]) == 8
    assert "pan.mp4" in found["by_clip"]
    for clip in found["by_clip"].values():
        assert list(clip) == names
        assert clip["per frame"]["warping_share_1"] == clip["per frame"]["gram_share"] == 1
    assert list(found["cost"]) == names[1:]
    assert found["model"]["noise_gain"] == 1
    assert found["model"]["shift_error"] == 0
    noise = found["by_clip"]["noise"]
    assert noise["window ±3"]["warping_share_1"] < noise["window ±1"]["warping_share_1"] < 0.8
    assert noise["window ±1"]["psnr"] > 25
    mean = np.mean([clip["ema 0.5"]["warping_share_1"] for clip in found["by_clip"].values()])
    assert found["mean"]["ema 0.5"]["warping_share_1"] == pytest.approx(mean)


def test_smoothing_on_the_device_gives_the_same_figures(compared: Path, inputs: Path, tmp_path: Path) -> None:
    on_host = json.loads((compared / "stability.json").read_text())["by_clip"]
    keys = {"smooth_on": "device", "gate_weights": [], "window_radii": [3], "ema_weights": []}
    comparison = compare_modes(benchmark(tmp_path / "out", inputs, **keys))
    for name, clip in comparison.by_clip.items():
        for key in ("warping_share_1", "high_frequency_share", "gram_share", "psnr"):
            assert clip["window ±3"][key] == pytest.approx(on_host[name]["window ±3"][key], rel=0.01, nan_ok=True)


def test_a_clip_without_flicker_has_no_share_of_it(inputs: Path, tmp_path: Path) -> None:
    write_video(tmp_path / "still.mp4", pan()[:1] * NUM_FRAMES)
    keys = {"videos": str(tmp_path), "synthetic": False}
    comparison = compare_modes(benchmark(tmp_path / "out", inputs, **keys))
    assert math.isnan(comparison.by_clip["still.mp4"]["window ±3"]["warping_share_1"])
    assert comparison.mean()["per frame"]["gram_share"] == 1
    record = json.loads((tmp_path / "out/stability.json").read_text())
    assert record["mean"]["per frame"]["warping_share_1"] is None


def test_plot_and_strips_are_written_for_every_clip(compared: Path) -> None:
    with Image.open(compared / "stability.png") as plot:
        assert plot.width > 1000
    clips = json.loads((compared / "stability.json").read_text())["by_clip"]
    strips = {path.stem for path in (compared / "strips").iterdir()}
    assert strips == {name.replace(" ", "_") for name in clips}


def test_the_default_is_compared_even_if_no_list_names_it(inputs: Path, tmp_path: Path) -> None:
    keys = {"temporal": {"mode": "ema", "weight": 0.6, "detail": 0.3}}
    default, versions = smoothing_versions(benchmark(tmp_path, inputs, **keys))
    assert default == "ema 0.6"
    assert list(versions) == ["per frame", "gate 0.7", "ema 0.5", "window ±1", "ema 0.6"]
    assert {version.detail for version in versions.values()} == {0.3}


def test_videos_that_cannot_be_measured_are_named(inputs: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/cut.mp4").write_bytes(b"no video")
    keys = {"videos": str(tmp_path / "in"), "synthetic": False}
    with pytest.raises(ConfigError, match=r"cut\.mp4"):
        compare_modes(benchmark(tmp_path / "out", inputs, **keys))
    assert not (tmp_path / "out").exists()
