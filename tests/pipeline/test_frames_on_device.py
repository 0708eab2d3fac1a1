"""Frames of videos that stay on the device, here a CPU: the same frames, times and notes as by way of the host."""

from pathlib import Path

import numpy as np
import pytest
from job_runner import check_invariants
from media_factory import Sound, decoded, moving_frames, write_video
from planning import spec_of, units_of

from nst_ops.config import StylizeConfig
from nst_ops.pipeline.worker import Worker

NUM_FRAMES = 9
LOSSLESS = {"pixel_format": "yuv444p", "crf": 0, "preset": "ultrafast"}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A video with sound and frames of uneven length."""
    (tmp_path / "in").mkdir()
    pts = np.cumsum(np.random.default_rng(0).integers(1, 4, NUM_FRAMES)).tolist()
    write_video(tmp_path / "in" / "video.mp4", moving_frames(NUM_FRAMES, 64, 48), pts=pts, sounds=[Sound()])
    return tmp_path / "in"


def stylize(source: Path, output: Path, network: Path, on_device: bool, **sections: object) -> dict[str, object]:
    config = StylizeConfig(
        input=str(source),
        output=str(output),
        model={"checkpoint": str(network), "device": "cpu", "precision": "fp32", "batch_size": 4},
        **{"video": LOSSLESS, **sections},
    )
    worker = Worker(spec_of(config), frames_on_device=on_device)
    for unit in units_of(worker):
        result = worker(unit)
        assert not result.error
        assert not result.fatal
    (row,) = check_invariants(output).values()
    return row


def same(rows: list[dict[str, object]]) -> None:
    """Assert that two rows tell the same, but for what no two runs share."""
    own = {"output_uri", "output_bytes", "output_sha256", "finished_at", "config_sha256"}
    first, second = ({k: v for k, v in row.items() if k not in own and not k.endswith("_s")} for row in rows)
    assert first == second


@pytest.mark.parametrize("mode", ["none", "ema", "window"])
def test_frames_of_a_device_are_those_of_the_host(source: Path, tmp_path: Path, network: Path, mode: str) -> None:
    temporal = {"mode": mode, "flow": "dis"}
    outputs = [tmp_path / "host", tmp_path / "device"]
    rows = [stylize(source, each, network, each.name == "device", temporal=temporal) for each in outputs]
    same(rows)
    assert rows[0]["status"] == "ok"
    assert rows[0]["num_frames"] == NUM_FRAMES
    host, device = (decoded(output / "video.mp4") for output in outputs)
    assert [frame.pts for frame in host] == [frame.pts for frame in device]
    for a, b in zip(host, device, strict=True):
        difference = a.to_ndarray().astype(int) - b.to_ndarray()
        assert np.abs(difference).max() <= 1
        assert np.abs(difference).mean() < 0.02
