"""Planning long films: by their packets alone, on the workers, whatever a file holds."""

import os
from pathlib import Path

import pytest
from media_factory import moving_frames, psnr, write_video
from nst_ops.pipeline.cutting import cut_films
from planning import units_of

from nst_ops.collection.units import WorkUnit
from nst_ops.config import StylizeConfig
from nst_ops.media.video import VideoReader
from nst_ops.pipeline.run_spec import RunSpec, new_run_spec
from nst_ops.pipeline.worker import Worker


def plan(source: Path, output: Path, **sections: object) -> tuple[list[WorkUnit], RunSpec]:
    config = StylizeConfig(
        input=str(source),
        output=str(output),
        model={"kind": "identity"},
        **{"units": {"segment_s": 1.0}, **sections},
    )
    spec = new_run_spec(config, config.input)
    return units_of(Worker(spec)), spec


def without_pictures(film: Path) -> None:
    """Leave the index of a film and the head of each NAL unit, and overwrite the pictures."""
    data = bytearray(film.read_bytes())
    start = data.index(b"mdat") + 4
    end = start + int.from_bytes(data[start - 8 : start - 4], "big") - 8
    while start < end:
        length = int.from_bytes(data[start : start + 4], "big")
        body = slice(start + 4 + 16, start + 4 + length)
        data[body] = bytes(len(data[body]))
        start += 4 + length
    film.write_bytes(data)


@pytest.mark.ray
def test_films_are_cut_without_a_look_at_their_pictures(cluster: str, tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    long, short = source / "long.mp4", source / "short.mp4"
    write_video(long, moving_frames(100, 64, 48), options={"g": "5", "preset": "ultrafast"})
    write_video(short, moving_frames(30, 64, 48), options={"g": "5", "preset": "ultrafast"})
    without_pictures(long)
    with VideoReader(str(long)) as reader:
        assert psnr(next(reader.frames()).rgb_hwc, moving_frames(1, 64, 48)[0]) < 15
    for index in range(60):
        os.link(long, source / f"long {index}.mp4")
    (source / "text.mp4").write_text("no film")
    (source / "empty.mp4").touch()
    units, spec = plan(source, tmp_path / "out")
    cut = cut_films(units, spec)
    by_film: dict[str, list[WorkUnit]] = {}
    for unit in cut:
        by_film.setdefault(unit.items[0]["relpath"], []).append(unit)
    assert len(by_film) == 64
    for name, parts in by_film.items():
        if name.startswith("long"):
            assert [unit.segment.number for unit in parts if unit.segment] == [0, 1, 2, 3]
            assert sum(unit.segment.num_frames for unit in parts if unit.segment) == 100
        else:
            assert [unit.segment for unit in parts] == [None]


@pytest.mark.ray
def test_frames_and_previews_stay_whole(cluster: str, tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    write_video(source / "film.mp4", moving_frames(100, 64, 48), options={"g": "5"})
    for video in ({"container": "frames"}, {"duration_s": 1.2}, {"start_s": 3.0}):
        units, spec = plan(source, tmp_path / "out", video=video)
        assert [unit.segment for unit in cut_films(units, spec)] == [None]
    units, spec = plan(source, tmp_path / "out", video={"start_s": 1.0})
    assert len(cut_films(units, spec)) == 3


@pytest.mark.ray
def test_segments_of_a_film_that_has_changed_are_dropped(cluster: str, tmp_path: Path) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    write_video(source / "film.mp4", moving_frames(100, 64, 48), options={"g": "5"})
    units, spec = plan(source, output)
    assert len(cut_films(units, spec)) == 4
