from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from nst_ops.media.errors import UnreadableVideoError
from nst_ops.media.video.reader import VideoReader
from nst_ops.temporal.scenes import Shot, read_samples, shot_at, survey_shots
from tests.media_factory import decoded, natural_image, write_video

SCENES = ("astronaut", "coffee", "rocket")
GROUP = 6  # frames from keyframe to keyframe
FIXED_GROUPS = {"g": str(GROUP), "sc_threshold": "0", "preset": "ultrafast", "crf": "10"}


def pan(name: str, num_frames: int) -> list[np.ndarray]:
    around = np.asarray(natural_image(name, 160 + num_frames, 90))
    return [np.ascontiguousarray(around[:, n : n + 160]) for n in range(num_frames)]


def three_scenes(path: Path, num_frames: int = 4 * GROUP, pts: list[int] | None = None) -> Path:
    frames = [frame for name in SCENES for frame in pan(name, num_frames)]
    return write_video(path, frames, pts=pts, options=FIXED_GROUPS)


def test_a_shot_begins_at_a_cut_and_samples_its_keyframes(tmp_path: Path) -> None:
    path = three_scenes(tmp_path / "video.mkv")
    keyframes = [frame.pts for frame in decoded(path) if frame.key_frame]
    assert len(keyframes) == 12
    assert survey_shots(str(path)) == [
        Shot(keyframes[i], tuple(keyframes[i : i + 4])) for i in range(0, len(keyframes), 4)
    ]


def test_samples_are_spread_over_a_shot(tmp_path: Path) -> None:
    path = write_video(tmp_path / "video.mkv", pan("coffee", 12 * GROUP), options=FIXED_GROUPS)
    keyframes = [frame.pts for frame in decoded(path) if frame.key_frame]
    (shot,) = survey_shots(str(path), max_samples=3)
    assert shot.sample_pts == (keyframes[2], keyframes[6], keyframes[10])


def test_a_cut_between_two_keyframes_counts_from_the_second(tmp_path: Path) -> None:
    frames = pan("astronaut", GROUP + 2) + pan("coffee", 2 * GROUP - 2)
    path = write_video(tmp_path / "video.mkv", frames, options=FIXED_GROUPS)
    times = [frame.pts for frame in decoded(path)]
    assert [shot.start_pts for shot in survey_shots(str(path))] == [times[0], times[2 * GROUP]]


def test_with_threshold_1_the_video_is_one_shot(tmp_path: Path) -> None:
    assert len(survey_shots(str(three_scenes(tmp_path / "video.mkv")), threshold=1)) == 1


def test_every_frame_has_a_shot() -> None:
    first, second = Shot(100, (100,)), Shot(200, (200,))
    shots = [first, second]
    assert [shot_at(shots, pts) for pts in (0, 100, 199, 200, 999)] == [first, first, first, second, second]


def test_samples_are_the_readers_own_frames(tmp_path: Path) -> None:
    num_frames = 3 * 4 * GROUP
    times = np.cumsum(np.random.default_rng(0).integers(1, 4, num_frames)).tolist()
    path = str(three_scenes(tmp_path / "video.mp4", pts=times))
    with VideoReader(path, 80) as reader:
        frames = {frame.pts: frame.rgb_hwc for frame in reader.frames()}
    shots = survey_shots(path)
    assert len(shots) == 3
    for shot in shots:
        expected = np.stack([frames[pts] for pts in shot.sample_pts])
        np.testing.assert_array_equal(read_samples(path, shot, 80), expected)


def test_a_stream_without_an_index_has_shots_too(tmp_path: Path) -> None:
    path = three_scenes(tmp_path / "video.ts")
    shots = survey_shots(str(path))
    assert len(shots) == 3
    with VideoReader(str(path)) as reader:
        frames = {frame.pts: frame.rgb_hwc for frame in reader.frames()}
    np.testing.assert_array_equal(read_samples(str(path), shots[2])[0], frames[shots[2].sample_pts[0]])


def test_a_video_of_keyframes_only_is_cut_at_the_frame(tmp_path: Path) -> None:
    frames = pan("astronaut", 5) + pan("coffee", 4)
    path = write_video(tmp_path / "video.avi", frames, codec="mjpeg", pix_fmt="yuvj420p", time_base=Fraction(1, 25))
    shots = survey_shots(str(path))
    times = [frame.pts if frame.pts is not None else frame.dts for frame in decoded(path)]
    assert [shot.start_pts for shot in shots] == [times[0], times[5]]


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    path.write_bytes(b"no video")
    with pytest.raises(UnreadableVideoError):
        survey_shots(str(path))
