"""A video in several styles: decoded once for a few, the same videos as alone, each with its own fate."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from job_runner import check_invariants, write_image
from media_factory import Sound, moving_frames, write_video
from planning import units_of

from nst_ops.collection.constants import SEGMENTS
from nst_ops.collection.units import WorkUnit, cut_unit
from nst_ops.config import StylizeConfig
from nst_ops.media.video.decoder import FrameDecoder
from nst_ops.media.video.segments import cut_segments, read_index
from nst_ops.pipeline.run_spec import new_run_spec
from nst_ops.pipeline.video_segments import unfinished
from nst_ops.pipeline.worker import Worker

NUM_FRAMES = 30


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A video with sound and a keyframe every ten frames."""
    (tmp_path / "in").mkdir()
    options = {"g": "10", "preset": "veryfast"}
    video = tmp_path / "in" / "video.mp4"
    write_video(video, moving_frames(NUM_FRAMES, 48, 32), options=options, sounds=[Sound(duration_s=1.2)])
    return tmp_path / "in"


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts the frames that are decoded."""
    counter: Counter[str] = Counter()
    decode = FrameDecoder.frames

    def count(self: FrameDecoder) -> Iterator[av.VideoFrame]:
        for frame in decode(self):
            counter["frames"] += 1
            yield frame

    monkeypatch.setattr(FrameDecoder, "frames", count)
    return counter


def make_worker(source: Path, output: str, styles: Path, vit_adain: Path, mode: str = "each") -> Worker:
    config = StylizeConfig(
        input=str(source),
        output=str(source.parent / output),
        model={"kind": "vit_adain", "checkpoint": str(vit_adain), "device": "cpu", "batch_size": 4},
        style={"images": str(styles), "mode": mode, "side": 32},
        video={"crf": 0, "preset": "ultrafast"},
        temporal={"mode": "ema"},
        workers={"queue_frames": 6},
    )
    return Worker(new_run_spec(config, config.input))


def cut(worker: Worker) -> list[WorkUnit]:
    """The video in three segments."""
    (unit,) = units_of(worker)
    index = read_index(f"{worker.config.input}/video.mp4")
    return cut_unit(unit, cut_segments(index, 0.4, worker.new_smoother().lead, worker.selection))


def stylize(worker: Worker, units: list[WorkUnit]) -> dict[str, dict[str, object]]:
    for unit in units:
        result = worker(unit)
        assert not result.fatal
        assert not result.error
    return check_invariants(Path(worker.config.output))


def frames_of(path: object) -> np.ndarray:
    with av.open(str(path)) as video:
        return np.stack([frame.to_ndarray() for frame in video.decode(video=0)])


def test_five_styles_of_a_video_are_decoded_twice(
    source: Path, styles: Path, vit_adain: Path, tmp_path: Path, decoded: Counter[str]
) -> None:
    for path in styles.iterdir():
        (tmp_path / "styles" / path.name).parent.mkdir(exist_ok=True)
        (tmp_path / "styles" / path.name).write_bytes(path.read_bytes())
    for seed, name in enumerate(("noise", "more noise")):
        write_image(tmp_path / "styles" / f"{name}.png", seed=seed)
    together = make_worker(source, "together", tmp_path / "styles", vit_adain)
    seconds = 0.0
    for unit in units_of(together):
        seconds += together(unit).timings.decode_s
    assert decoded["frames"] == 2 * NUM_FRAMES  # four styles at once, and the one that is left
    rows = together.manifest.table().to_pylist()
    assert {row["status"] for row in rows} == {"ok"}
    assert sum(row["decode_s"] for row in rows) == pytest.approx(seconds)
    assert all(row["encode_s"] > 0 and row["stylize_s"] > 0 for row in rows)
    hashes = {row["style"]: row["output_sha256"] for row in rows}
    assert len(set(hashes.values())) == 5
    for name in ("amber", "more noise"):
        alone = make_worker(source, name, tmp_path / "styles" / f"{name}.png", vit_adain, "one")
        (row,) = stylize(alone, units_of(alone)).values()
        assert row["output_sha256"] == hashes[name]


def test_a_bad_output_fails_its_style_and_damage_fails_all(source: Path, styles: Path, vit_adain: Path) -> None:
    worker = make_worker(source, "out", styles, vit_adain)
    worker.output.write_bytes("moss", b"a file where the folder of the style would be")
    (unit,) = units_of(worker)
    result = worker(unit)
    assert result.statuses == {"ok": 2, "failed": 1}
    failed = [row["style"] for row in worker.manifest.table().to_pylist() if row["status"] == "failed"]
    assert failed == ["moss"]

    data = (source / "video.mp4").read_bytes()
    (source / "video.mp4").write_bytes(data[: len(data) // 2])
    cut_off = make_worker(source, "cut off", styles, vit_adain)
    stylize(cut_off, units_of(cut_off))
    rows = cut_off.manifest.table().to_pylist()
    assert [row["status"] for row in rows] == ["failed"] * 3
    assert not list(Path(cut_off.config.output).rglob("*.mp4"))


def test_a_video_in_segments_and_styles_goes_on_after_a_kill(
    source: Path, styles: Path, vit_adain: Path, decoded: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = make_worker(source, "whole", styles, vit_adain)
    expected = stylize(whole, units_of(whole))
    killed = make_worker(source, "parts", styles, vit_adain)
    units = cut(killed)
    assert len(units) == 3
    stylize(killed, units[:1])

    def die(**_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("nst_ops.pipeline.video_segments.SegmentRecord", die)
        with pytest.raises(KeyboardInterrupt):
            killed(units[1])
    moss = killed.output.path(f"{SEGMENTS}/{units[0].video_in('moss')}/00000.json")
    Path(moss).unlink()  # as if it had died after the record of the first style

    worker = make_worker(source, "parts", styles, vit_adain)
    left = unfinished(cut(worker), worker.output)
    (first,) = units[0].items
    assert left == [replace(units[0], items=({**first, "styles": ("moss",)},)), *units[1:]]
    decoded.clear()
    rows = stylize(worker, left)
    assert decoded["frames"] < 3 * NUM_FRAMES  # once for three styles, with what leads into each segment
    assert {row["status"] for row in rows.values()} == {"ok"}
    assert len({row["unit_id"] for row in rows.values()}) == 3
    assert not list((source.parent / "parts" / SEGMENTS).glob("*"))
    for name, row in rows.items():
        difference = frames_of(row["output_uri"]).astype(int) - frames_of(expected[name]["output_uri"])
        assert np.abs(difference).max() <= 1


def test_a_style_that_fails_in_a_segment_fails_its_own_video(
    source: Path, styles: Path, vit_adain: Path, tmp_path: Path
) -> None:
    for name in ("good", "soon_bad"):
        write_image(tmp_path / "styles" / f"{name}.png")
    worker = make_worker(source, "out", tmp_path / "styles", vit_adain)
    units = cut(worker)
    (tmp_path / "styles" / "soon_bad.png").write_bytes(b"overwritten since the run began")
    stylize(worker, units)
    rows = {row["style"]: row for row in worker.manifest.table().to_pylist()}
    assert {style: row["status"] for style, row in rows.items()} == {"good": "ok", "soon_bad": "failed"}
    assert rows["good"]["num_frames"] == NUM_FRAMES
