"""Evaluating the videos of a run: figures, plot, strips, page."""

import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from job_runner import write_image
from media_factory import natural_image, write_video
from PIL import Image

from nst_ops.cli import main
from nst_ops.collection.manifest import Manifest
from nst_ops.config import ConfigError, EvaluateConfig
from nst_ops.evaluation.video_report import Crop, busiest_crop, strip
from nst_ops.evaluation.videos import evaluate_videos
from nst_ops.storage import Folder

NUM_FRAMES = 12


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Frames are tiny: more threads would only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pan() -> list[np.ndarray]:
    """Views of an image in soft contrast, each a pixel further to the right than the one before."""
    around = np.asarray(natural_image("astronaut", 64 + NUM_FRAMES, 48)) // 2 + 64
    return [np.ascontiguousarray(around[:, t : t + 64]) for t in range(NUM_FRAMES)]


def still(frame: int, other: int) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((48, 64, 2), np.float32), np.ones((48, 64), bool)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three videos: one as it was, one that flickers in brightness, one whose output has gone."""
    root = tmp_path_factory.mktemp("finished")
    for folder in ("in", "run"):
        (root / folder).mkdir()
    frames = pan()
    flicker = [np.clip(p.astype(int) + 12 * (-1) ** t, 0, 255).astype(np.uint8) for t, p in enumerate(frames)]
    write_image(root / "style.png", 40, 32)
    rows = []
    for name, output in (("<calm>.mp4", frames), ("restless.mp4", flicker), ("gone.mp4", None)):
        write_video(root / "in" / name, frames)
        if output:
            write_video(root / "run" / name, output)
        rows.append(row(root, name))
    rows.append({"item_id": "x", "source_uri": "x", "kind": "video", "style": "s", "status": "failed"})
    Manifest(Folder(str(root / "run"))).commit("unit", rows)
    return root


def row(root: Path, name: str) -> dict[str, object]:
    return {
        "item_id": name,
        "source_uri": str(root / "in" / name),
        "output_uri": str(root / "run" / name),
        "kind": "video",
        "style": "identity",
        "status": "ok",
        "frame_rate": 25.0,
    }


@pytest.fixture(scope="module")
def evaluated(finished: Path, vgg_file: Path) -> tuple[int, str]:
    """The job as a person runs it: its exit code and what it printed."""
    arguments = ["--temporal", "--run", finished / "run", "--style", finished / "style.png"]
    arguments += ["--output", finished / "evaluation", "--vgg.weights", vgg_file, "--device", "cpu"]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exit_code = main(["evaluate", *map(str, arguments)])
    return exit_code, printed.getvalue()


def test_every_video_that_can_be_read_is_measured(finished: Path, evaluated: tuple[int, str]) -> None:
    assert evaluated[0] == 3
    rows = {row["name"]: row for row in pq.read_table(finished / "evaluation/stability.parquet").to_pylist()}
    assert set(rows) == {"<calm>.mp4", "restless.mp4"}
    calm, restless = rows["<calm>.mp4"], rows["restless.mp4"]
    assert calm["num_frames"] == NUM_FRAMES
    assert calm["warping_ratio_1"] == pytest.approx(1)
    assert calm["luminance_flicker"] == pytest.approx(0, abs=0.05)
    assert calm["gram"] == pytest.approx(calm["source_gram"], rel=0.01) != 0
    # A brightness of +12, -12, +12, ...: frames next to each other differ by 24 gray levels, those 10
    # apart not at all, and each from the mean of its neighbors by 24.
    added = restless["warping_error_1"] - restless["source_warping_error_1"]
    assert added == pytest.approx((24 / 255) ** 2, rel=0.15)
    assert restless["warping_ratio_10"] == pytest.approx(1, rel=0.3)
    assert restless["luminance_flicker"] == pytest.approx(24 * (2 / 3) ** 0.5, rel=0.1)
    assert "warping error, 1 apart" in evaluated[1]


def test_page_and_summary_hold_everything_and_what_is_missing(finished: Path, evaluated: tuple[int, str]) -> None:
    page = (finished / "evaluation/index.html").read_text()
    assert "&lt;calm&gt;.mp4" in page
    assert "<calm>" not in page
    assert page.count("data:image/jpeg;base64,") == 2
    assert page.index("<h3>restless.mp4") < page.index("<h3>&lt;calm&gt;.mp4")
    assert "src=" not in page.replace('src="data:', "")
    summary = json.loads((finished / "evaluation/summary.json").read_text())
    assert summary["videos"] == 2
    assert "gone.mp4" in next(iter(summary["unreadable"]))
    assert any("relu3_1" in note for note in summary["notes"])
    assert str(finished / "evaluation/index.html") in evaluated[1]


@pytest.fixture(params=["side by side", "frames"])
def preview(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A run of a few frames from the middle of a video, whose brightness jumps, left as they were."""
    jumps = (0, 9, -7, 4, 12, -11, 3, -5, 10, -2, 6, -9)
    frames = [(p + np.int16(jump)).astype(np.uint8) for p, jump in zip(pan(), jumps, strict=True)]
    (tmp_path / "in").mkdir()
    (tmp_path / "run").mkdir()
    write_video(tmp_path / "in/video.mp4", frames)
    video: dict[str, object] = {"start_s": 0.16, "duration_s": 0.2}
    written = row(tmp_path, "video.mp4")
    if request.param == "frames":
        lines = ["name,pts_s"]
        for t in range(4, 9):
            Image.fromarray(frames[t]).save(tmp_path / f"run/{t}.png")
            lines.append(f"{t}.png,{t * 0.04}")
        (tmp_path / "run/frames.csv").write_text("\n".join(lines))
        written["output_uri"] = str(tmp_path / "run/frames.csv")
    else:
        video["side_by_side"] = True
        write_video(tmp_path / "run/video.mp4", [np.concatenate([p * 0, p], axis=1) for p in frames[4:9]])
    Manifest(Folder(str(tmp_path / "run"))).commit("unit", [written])
    (tmp_path / "run/run.json").write_text(json.dumps({"config": {"video": video}}))
    return tmp_path


def test_the_same_frames_of_a_preview_are_compared(preview: Path, finished: Path, vgg_file: Path) -> None:
    (only,) = evaluate_videos(config(preview, finished, vgg_file)).results.rows
    assert (only["num_frames"], only["width"], only["height"]) == (5, 64, 48)
    assert only["warping_ratio_1"] == pytest.approx(1, rel=0.1)
    assert only["luminance_flicker"] == pytest.approx(0, abs=0.2)


def config(root: Path, finished: Path, vgg_file: Path, **keys: object) -> EvaluateConfig:
    given = {"run": root / "run", "style": finished / "style.png", "output": root / "evaluation"}
    texts = {key: str(value) for key, value in given.items()}
    return EvaluateConfig(**{**texts, "vgg": {"weights": str(vgg_file)}, "device": "cpu", **keys})


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"run": "nowhere"}, "give the output folder"),
        ({"style": "nowhere"}, "does not exist"),
        ({"vgg": {"weights": "nowhere.safetensors"}}, "nowhere"),
        ({"device": "cuda:99"}, "cuda:99"),
        ({"excerpt": {"start_s": 60}}, "excerpt.start_s"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_written(
    finished: Path, tmp_path: Path, vgg_file: Path, keys: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        evaluate_videos(config(finished, finished, vgg_file, **{"output": str(tmp_path / "out"), **keys}))
    assert not (tmp_path / "out").exists()


def test_the_crop_is_where_a_clip_changes_most() -> None:
    frames = np.full((4, 48, 64, 3), 90, np.uint8)
    frames[::2, 30:34, 40:44] = 200
    crop = busiest_crop(frames, still, share=0.25)
    assert crop.side == 12
    assert 22 <= crop.y <= 30
    assert 32 <= crop.x <= 40
    assert crop.cut(frames).shape == (4, 12, 12, 3)


def test_a_strip_shows_each_version_and_time_downwards() -> None:
    frames = np.zeros((8, 48, 64, 3), np.uint8)
    frames[:, :, :, 0] = np.arange(8)[:, None, None] * 30
    image = np.asarray(strip({"one": frames, "two": frames[::-1]}, Crop(8, 8, 16), columns=3))
    line = image[:, -20]
    first, second = line[30:180, 0], line[202:352, 0]
    assert np.all(np.diff(first.astype(int)) >= 0)
    assert first[-1] - first[0] == 210
    assert np.all(np.diff(second.astype(int)) <= 0)
