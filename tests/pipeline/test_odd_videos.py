"""Videos that are odd or broken, stylized and smoothed: each is a video or a row that says why not."""

from fractions import Fraction
from pathlib import Path

import numpy as np
from job_runner import check_invariants
from media_factory import Sound, decoded, moving_frames, times, write_video
from PIL import Image
from planning import units_of

from nst_ops.config import StylizeConfig
from nst_ops.pipeline.run_spec import new_run_spec
from nst_ops.pipeline.worker import Worker


def stylize(source: Path, output: Path, network: Path, **sections: object) -> dict[str, dict[str, object]]:
    config = StylizeConfig(
        input=str(source),
        output=str(output),
        model={"checkpoint": str(network), "device": "cpu"},
        **{"video": {"preset": "ultrafast"}, **sections},
    )
    worker = Worker(new_run_spec(config, config.input))
    for unit in units_of(worker):
        result = worker(unit)
        assert not result.fatal
        assert not result.error
    return check_invariants(output)


def test_every_odd_video_comes_back_whole(tmp_path: Path, network: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    frames = moving_frames(8, 48, 32)
    uneven = {"pts": [0, 40, 55, 120, 121, 300, 301, 340], "time_base": Fraction(1, 1000)}
    write_video(source / "one pixel.mkv", [frame[:1, :1] for frame in frames], codec="ffv1", pix_fmt="bgr0")
    write_video(source / "odd size.mkv", moving_frames(8, 33, 17), codec="ffv1", pix_fmt="bgr0")
    write_video(source / "one frame.mp4", frames[:1])
    write_video(source / "-i.mp4", frames)
    write_video(source / "uneven.mkv", frames, **uneven)
    write_video(source / "late.ts", frames, pts=range(50, 58))
    write_video(source / "long sound.mp4", frames, sounds=[Sound(duration_s=2.0)])
    write_video(source / "interlaced.mp4", frames, options={"flags": "+ildct+ilme", "preset": "ultrafast"})
    write_video(source / "two scenes.mp4", [*frames[:4], *(255 - frame for frame in frames[4:])])
    images = [Image.fromarray(frame) for frame in frames]
    images[0].save(source / "moves.gif", save_all=True, append_images=images[1:], duration=50)
    rows = stylize(source, tmp_path / "out", network)
    assert {name: row["error_message"] for name, row in rows.items() if row["status"] != "ok"} == {}
    for name, row in rows.items():
        assert row["num_frames"] == (1 if name == "one frame.mp4" else 8)
        assert len(decoded(Path(str(row["output_uri"])))) == row["num_frames"]
    assert rows["one pixel.mkv"]["output_width"] == 2
    for name in ("uneven.mkv", "-i.mp4", "long sound.mp4"):
        assert times(tmp_path / "out" / name) == times(source / name)


def test_what_is_no_video_says_so(tmp_path: Path, network: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    (source / "empty.mp4").touch()
    (source / "text.mkv").write_text("no video")
    video = write_video(tmp_path / "video.mp4", moving_frames(40, 64, 48))
    data = video.read_bytes()
    (source / "cut off.mp4").write_bytes(data[: len(data) // 2])
    rows = stylize(source, tmp_path / "out", network)
    assert {name: row["error_type"] for name, row in rows.items()} == {
        "empty.mp4": "EmptyFileError",
        "text.mkv": "UnreadableVideoError",
        "cut off.mp4": "UnreadableVideoError",
    }
    assert [path for path in (tmp_path / "out").rglob("*.m*") if path.is_file()] == []


def test_a_folder_of_frames_holds_what_the_video_would(tmp_path: Path, network: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    write_video(source / "video.mp4", moving_frames(6, 48, 32), sounds=[Sound()])
    lossless = {"crf": 0, "preset": "ultrafast", "pixel_format": "yuv444p"}
    stylize(source, tmp_path / "video", network, video=lossless)
    rows = stylize(source, tmp_path / "frames", network, video={"container": "frames"})
    (row,) = rows.values()
    assert str(row["output_uri"]).endswith("video.mp4.frames/frames.csv")
    assert "sound" in str(row["note"])
    folder = Path(str(row["output_uri"])).parent
    assert len(list(folder.glob("*.png"))) == row["num_frames"] == 6
    for path, frame in zip(sorted(folder.glob("*.png")), decoded(tmp_path / "video" / "video.mp4"), strict=True):
        written = frame.to_ndarray(format="rgb24").astype(int)
        assert np.abs(np.asarray(Image.open(path), int) - written).mean() < 2


def test_side_by_side_shows_the_source_at_the_left(tmp_path: Path, network: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    frames = moving_frames(6, 64, 48)
    write_video(source / "video.mp4", frames)
    video = {"crf": 0, "preset": "ultrafast", "pixel_format": "yuv444p", "side_by_side": True}
    (row,) = stylize(source, tmp_path / "out", network, video=video).values()
    assert (row["width"], row["output_width"], row["output_height"]) == (64, 128, 48)
    for frame, original in zip(decoded(tmp_path / "out" / "video.mp4"), frames, strict=True):
        shown = frame.to_ndarray(format="rgb24").astype(int)
        assert np.abs(shown[:, :64] - original).mean() < 6
        assert np.abs(shown[:, 64:] - original).mean() > 20
