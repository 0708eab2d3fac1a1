"""A video as a folder of numbered images: upright, with their times beside them."""

import csv
import hashlib
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from media_factory import Sound, moving_frames, write_video
from PIL import Image

from nst_ops.media.formats import likely_output, media_kind, video_output
from nst_ops.media.video.reader import VideoReader
from nst_ops.media.video.writer import FrameFolderWriter

UNEVEN = [0, 40, 55, 120, 121, 300]  # ms


def write(source: Path, folder: Path) -> tuple[list[np.ndarray], list[str]]:
    """Write every frame of ``source``; what was written, and the notes."""
    folder.mkdir()
    with VideoReader(str(source)) as reader, FrameFolderWriter(str(folder), reader.info) as writer:
        frames = list(reader.frames())
        for frame in frames:
            writer.write(frame)
    return [frame.rgb_hwc for frame in frames], writer.notes


def test_frames_and_times_come_out_exactly(tmp_path):
    images = moving_frames(6, 33, 31)
    clock = {"pts": UNEVEN, "time_base": Fraction(1, 1000)}
    source = write_video(tmp_path / "a.mkv", images, codec="ffv1", pix_fmt="bgr0", **clock)
    frames, notes = write(source, tmp_path / "out")
    assert notes == []
    names = [f"{number:06d}.png" for number in range(6)]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [*names, "frames.csv"]
    for name, frame in zip(names, frames, strict=True):
        assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / name)), frame)
    with (tmp_path / "out" / "frames.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == names
    assert [float(row["pts_s"]) for row in rows] == [time / 1000 for time in UNEVEN]
    assert all(float(row["duration_s"]) > 0 for row in rows)
    hashes = [hashlib.sha256((tmp_path / "out" / name).read_bytes()).hexdigest() for name in names]
    assert [row["sha256"] for row in rows] == hashes


@pytest.mark.parametrize("rotation", [90, -90, 180])
def test_written_frames_are_upright(tmp_path, rotation):
    source = write_video(tmp_path / "a.mp4", moving_frames(1, 48, 32), rotation=rotation)
    (frame,), _ = write(source, tmp_path / "out")
    upright = Image.fromarray(frame).rotate(rotation, expand=True)  # counter-clockwise, as the tag counts
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / "000000.png")), np.asarray(upright))


def test_losses_of_a_frame_folder_are_noted(tmp_path):
    source = write_video(tmp_path / "a.mp4", moving_frames(3, 48, 32), sounds=[Sound()], aspect=Fraction(4, 3))
    assert write(source, tmp_path / "out")[1] == [
        "its sound is left out: images hold none",
        "its pixels are 4/3 times as wide as high",
    ]


# Names.


@pytest.mark.parametrize(
    ("relpath", "container", "expected"),
    [
        ("d/a.mp4", "mp4", ("d/a.mp4", "mp4")),
        ("a.M4V", "mp4", ("a.M4V", "mp4")),
        ("a.mkv", "mp4", ("a.mkv.mp4", "mp4")),
        ("a.mp4", "mov", ("a.mp4.mov", "mov")),
        ("a.webm", "mkv", ("a.webm.mkv", "matroska")),
        ("a.mkv", "mkv", ("a.mkv", "matroska")),
        ("d/a.mp4", "frames", ("d/a.mp4.frames", "frames")),
        ("a.mp4", "auto", ("a.mp4", "mp4")),
    ],
)
def test_a_requested_container_decides_the_name(relpath, container, expected):
    assert video_output(relpath, container=container) == expected
    assert likely_output(relpath, container) == expected[0]


def test_animations_follow_the_container_and_images_do_not():
    assert video_output("a.gif", has_sound=False, container="mkv") == ("a.gif.mkv", "matroska")
    assert video_output("a.gif", has_sound=False, container="frames") == ("a.gif.frames", "frames")
    assert likely_output("a.jpg", "frames") == "a.jpg"


@pytest.mark.parametrize("container", ["auto", "mp4", "mov", "mkv", "frames"])
def test_no_two_videos_share_a_name(container):
    names = ["a.mp4", "a.m4v", "a.mov", "a.mkv", "a.webm", "a.avi", "a"]
    outputs = [likely_output(name, container) for name in names]
    assert len(set(outputs)) == len(names)


def test_a_folder_of_frames_is_no_file_that_a_run_would_read():
    assert media_kind("a.mp4.frames") == "other"
