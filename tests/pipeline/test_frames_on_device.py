"""Frames of videos that stay on the device, here a CPU: the same frames, times and notes as by way of the host."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from job_runner import check_invariants
from media_factory import Sound, decoded, moving_frames, write_video
from PIL import Image
from planning import spec_of, units_of

from nst_ops.collection.units import cut_unit
from nst_ops.config import StylizeConfig
from nst_ops.pipeline.worker import Worker
from nst_ops.stylizers import Style

NUM_FRAMES, NAME = 9, "video.mp4"
LOSSLESS = {"crf": 0, "preset": "ultrafast"}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A video with sound and frames of uneven length."""
    (tmp_path / "in").mkdir()
    pts = np.cumsum(np.random.default_rng(0).integers(1, 4, NUM_FRAMES)).tolist()
    write_video(tmp_path / "in" / NAME, moving_frames(NUM_FRAMES, 64, 48), pts=pts, sounds=[Sound()])
    return tmp_path / "in"


class Negative:
    """A stylizer whose result is as exact as its input: what differs comes from elsewhere."""

    takes_tensors = True
    device = torch.device("cpu")

    def __init__(self) -> None:
        self.given: set[type] = set()

    def __call__(self, frames_nhwc: Any, styles: Sequence[Style] = ()) -> Any:
        self.given.add(type(frames_nhwc))
        return 255 - frames_nhwc


def make_worker(source: Path, output: Path, network: Path, on_device: bool | None, **sections: object) -> Worker:
    config = StylizeConfig(
        input=str(source),
        output=str(output),
        **{
            "model": {"checkpoint": str(network), "device": "cpu", "precision": "fp32", "batch_size": 4},
            "video": LOSSLESS,
            **sections,
        },
    )
    return Worker(spec_of(config), frames_on_device=on_device)


def run(worker: Worker) -> dict[str, object]:
    """Stylize the only item; return its row."""
    for unit in units_of(worker):
        result = worker(unit)
        for part in cut_unit(unit, result.segments) if result.segments else ():
            assert not worker(part).error
        assert not result.error
        assert not result.fatal
    (row,) = check_invariants(Path(worker.config.output)).values()
    return row


def same(rows: list[dict[str, object]]) -> None:
    """Assert that two rows tell the same, but for what no two runs share."""
    own = {"output_uri", "output_bytes", "output_sha256", "finished_at", "config_sha256"}
    first, second = ({k: v for k, v in row.items() if k not in own and not k.endswith("_s")} for row in rows)
    assert first == second


def compared(source: Path, tmp_path: Path, network: Path, **sections: object) -> tuple[np.ndarray, dict[str, object]]:
    """Stylize both ways; return by how much the planes differ, and the row."""
    rows, videos = [], []
    for on_device in (False, True):
        worker = make_worker(source, tmp_path / str(on_device), network, on_device, **sections)
        worker.stylizer = Negative()
        rows.append(run(worker))
        assert worker.stylizer.given == {torch.Tensor if on_device else np.ndarray}
        videos.append(
            [(frame.pts, frame.to_ndarray().astype(int)) for frame in decoded(tmp_path / str(on_device) / NAME)]
        )
    same(rows)
    assert [pts for pts, _ in videos[0]] == [pts for pts, _ in videos[1]]
    assert len(videos[0]) == rows[0]["num_frames"]
    return np.stack([np.abs(a - b) for (_, a), (_, b) in zip(*videos, strict=True)]), rows[0]


@pytest.mark.parametrize("mode", ["none", "gate", "ema", "window"])
def test_frames_of_a_device_are_those_of_the_host(source: Path, tmp_path: Path, network: Path, mode: str) -> None:
    difference, row = compared(source, tmp_path, network, temporal={"mode": mode, "flow": "dis"})
    assert row["status"] == "ok"
    assert row["num_frames"] == NUM_FRAMES
    assert difference.max() <= 1
    assert difference.mean() < 0.05


@pytest.mark.parametrize(
    "sections",
    [
        {"video": {**LOSSLESS, "pixel_format": "yuv444p"}},
        {"video": {**LOSSLESS, "side_by_side": True}},
        {"resize": {"max_side": 40}},
    ],
    ids=["444", "side by side", "resized"],
)
def test_what_is_asked_for_comes_out_the_same(source: Path, tmp_path: Path, network: Path, sections: dict) -> None:
    difference, _ = compared(source, tmp_path, network, **{"temporal": {"flow": "dis"}, **sections})
    assert difference.max() <= 1


@pytest.mark.parametrize("pixel_format", ["yuv422p", "yuv444p", "yuvj420p"])
def test_sources_of_other_formats_come_out_the_same(tmp_path: Path, network: Path, pixel_format: str) -> None:
    (tmp_path / "in").mkdir()
    write_video(tmp_path / "in" / NAME, moving_frames(NUM_FRAMES, 64, 48), pix_fmt=pixel_format)
    difference, _ = compared(tmp_path / "in", tmp_path, network, temporal={"mode": "none"})
    assert difference.max() <= 1
    assert difference.mean() < 0.05


def test_colors_are_preserved_by_way_of_the_host(source: Path, tmp_path: Path, network: Path) -> None:
    videos = []
    for on_device in (False, True):
        sections = {"temporal": {"mode": "none"}, "style": {"preserve_color": True}}
        worker = make_worker(source, tmp_path / str(on_device), network, on_device, **sections)
        worker.stylizer = Negative()
        run(worker)
        assert worker.stylizer.given == {np.ndarray}
        videos.append(np.stack([frame.to_ndarray().astype(int) for frame in decoded(tmp_path / str(on_device) / NAME)]))
    assert np.abs(videos[0] - videos[1]).max() <= 1


@pytest.mark.parametrize("frozen", [False, True])
def test_a_network_on_the_device_gives_what_it_does_on_the_host(
    source: Path, tmp_path: Path, network: Path, frozen: bool
) -> None:
    temporal = {"flow": "dis", "freeze_statistics": frozen}
    videos = []
    for on_device in (False, True):
        run(make_worker(source, tmp_path / str(on_device), network, on_device, temporal=temporal))
        videos.append(np.stack([frame.to_ndarray().astype(int) for frame in decoded(tmp_path / str(on_device) / NAME)]))
    assert np.abs(videos[0] - videos[1]).max() <= 1


def test_segments_come_out_as_the_whole(source: Path, tmp_path: Path, network: Path) -> None:
    sections = {"temporal": {"flow": "lucas_kanade", "radius": 2}}
    write_video(source / NAME, moving_frames(60, 64, 48), options={"g": "20"})
    run(make_worker(source, tmp_path / "whole", network, True, **sections))
    row = run(make_worker(source, tmp_path / "parts", network, True, **sections, units={"segment_s": 1}))
    assert row["num_frames"] == 60
    whole, parts = (decoded(tmp_path / name / NAME) for name in ("whole", "parts"))
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(a.to_ndarray(), b.to_ndarray())


def test_an_animation_becomes_the_same_folder_of_frames(tmp_path: Path, network: Path) -> None:
    (tmp_path / "in").mkdir()
    frames = [Image.fromarray(frame) for frame in moving_frames(5, 41, 30)]
    frames[0].save(tmp_path / "in" / "moves.webp", save_all=True, append_images=frames[1:], duration=70, lossless=True)
    for on_device in (False, True):
        sections = {"video": {"container": "frames"}, "temporal": {"flow": "dis"}}
        run(make_worker(tmp_path / "in", tmp_path / str(on_device), network, on_device, **sections))
    images = sorted((tmp_path / "False").rglob("0*.png"))
    assert len(images) == 5
    for path in images:
        other = tmp_path / "True" / path.relative_to(tmp_path / "False")
        assert np.abs(np.asarray(Image.open(path)).astype(int) - np.asarray(Image.open(other))).max() <= 1


def test_several_styles_come_out_the_same(source: Path, tmp_path: Path, vit_adain: Path, styles: Path) -> None:
    sections = {
        "model": {"kind": "vit_adain", "checkpoint": str(vit_adain), "device": "cpu", "batch_size": 4},
        "style": {"images": str(styles), "mode": "each", "side": 32},
        "temporal": {"flow": "dis"},
        "video": LOSSLESS,
    }
    for on_device in (False, True):
        config = StylizeConfig(input=str(source), output=str(tmp_path / str(on_device)), **sections)
        worker = Worker(spec_of(config), frames_on_device=on_device)
        for unit in units_of(worker):
            assert not worker(unit).error
        check_invariants(tmp_path / str(on_device))
    outputs = sorted((tmp_path / "False").rglob("*.mp4"))
    assert len(outputs) == 3
    for path in outputs:
        pairs = zip(decoded(path), decoded(tmp_path / "True" / path.relative_to(tmp_path / "False")), strict=True)
        assert max(np.abs(a.to_ndarray().astype(int) - b.to_ndarray()).max() for a, b in pairs) <= 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("mode", ["none", "ema", "window"])
def test_frames_of_a_gpu_are_those_of_the_host(source: Path, tmp_path: Path, network: Path, mode: str) -> None:
    videos = []
    for device in ("cpu", "cuda"):
        model = {"checkpoint": str(network), "device": device, "batch_size": 4}
        worker = make_worker(
            source, tmp_path / device, network, None, model=model, temporal={"mode": mode, "flow": "dis"}
        )
        worker.stylizer = Negative()
        run(worker)
        assert worker.stylizer.given == {torch.Tensor if device == "cuda" else np.ndarray}
        videos.append(np.stack([frame.to_ndarray().astype(int) for frame in decoded(tmp_path / device / NAME)]))
    difference = np.abs(videos[0] - videos[1])
    assert (difference > 1).mean() < 1e-3
    assert difference.mean() < 0.05
