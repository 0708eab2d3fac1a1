"""What is tried again, in which parts, and what is left to the next run."""

from dataclasses import replace
from pathlib import Path

import pytest
from job_runner import check_invariants, read_manifest, visible_files, write_image
from media_factory import moving_frames, write_video
from planning import plan_of, spec_of, units_of

from nst_ops.collection.constants import PACKING, SEGMENTS
from nst_ops.collection.packing import remove_unfinished_shards
from nst_ops.config import StylizeConfig
from nst_ops.config.errors import FatalError
from nst_ops.pipeline.executors import LostUnit
from nst_ops.pipeline.retry import RunUnits
from nst_ops.pipeline.run_spec import new_run_spec
from nst_ops.pipeline.worker import UnitResult, Worker


def make_worker(root: Path, **sections: object) -> Worker:
    config = StylizeConfig(input=str(root / "in"), output=str(root / "out"), **sections)
    return Worker(spec_of(config))


def run_units(worker: Worker, images: int | None = None) -> RunUnits:
    return RunUnits(worker.run_spec, worker.manifest, plan_of(worker, images).units())


def statuses(root: Path) -> dict[str, object]:
    return {Path(str(row["source_uri"])).name: row["status"] for row in read_manifest(root / "out")}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for name in ("a.png", "b.png", "c.png"):
        write_image(tmp_path / "in" / name)
    return tmp_path


def test_rows_wait_while_the_storage_is_away(images: Path) -> None:
    worker = make_worker(images, model={"kind": "identity"}, workers={"attempts": 1})
    units = run_units(worker, images=1)
    away, broken, done = units.take(), units.take(), units.take()
    assert away
    assert broken
    assert done
    assert units.take() is None
    assert not units.finished
    units.settle(worker(done))
    units.settle(UnitResult(away.unit_id, error="no answer", storage_is_away=True))
    units.settle(UnitResult(broken.unit_id, error="RuntimeError: device lost"))
    assert units.finished
    assert (units.num_left, units.away_reason) == (1, "no answer")
    rows = {row["source_uri"]: row["status"] for row in read_manifest(images / "out")}
    assert rows == {broken.keys[0][0]: "crashed", done.keys[0][0]: "ok"}
    (left,) = units_of(worker)
    assert left.keys == away.keys


def test_a_storage_that_comes_back_costs_a_try_only(images: Path) -> None:
    worker = make_worker(images, model={"kind": "identity"})
    units = run_units(worker)
    unit = units.take()
    assert unit
    units.settle(UnitResult(unit.unit_id, error="no answer", storage_is_away=True))
    while unit := units.take():
        units.settle(worker(unit))
    assert units.finished
    assert units.num_left == 0
    assert set(statuses(images).values()) == {"ok"}


def test_the_culprit_is_hunted_down_to_one_style(tmp_path: Path, styles: Path, vit_adain: Path) -> None:
    source = tmp_path / "in"
    for name in ("a.png", "b.png"):
        write_image(source / name)
    model = {"kind": "vit_adain", "checkpoint": str(vit_adain), "device": "cpu"}
    style = {"images": str(styles), "mode": "each", "side": 32}
    config = StylizeConfig(input=str(source), output=str(tmp_path / "out"), model=model, style=style)
    worker = Worker(new_run_spec(config, str(source)))
    units = run_units(worker)
    sizes = []
    while unit := units.take():
        sizes.append(len(unit.keys))
        names = [(item["relpath"], style) for item in unit.items for style in item["styles"]]
        is_fatal = ("a.png", "moss") in names  # the one that kills whoever touches it
        units.settle(LostUnit(unit.unit_id) if is_fatal else worker(unit))
    assert units.finished
    assert sizes == [6, 3, 3, 1, 1, 1]
    rows = check_invariants(tmp_path / "out")
    assert len(rows) == 6
    assert {name: row["status"] for name, row in rows.items() if row["status"] != "ok"} == {"moss/a.png": "crashed"}
    assert rows["moss/a.png"]["attempts"] == 3
    assert units.num_retries == 5


def test_a_node_that_dies_is_not_the_fault_of_its_unit(images: Path) -> None:
    worker = make_worker(images, model={"kind": "identity"}, workers={"attempts": 1})
    units = run_units(worker)
    for _ in range(3):
        unit = units.take()
        assert unit
        assert (len(unit.items), unit.attempt) == (3, 1)
        units.settle(LostUnit(unit.unit_id, node_died=True))
    unit = units.take()
    assert unit
    units.settle(LostUnit(unit.unit_id, node_died=True))  # three nodes are no accident
    assert units.finished
    assert set(statuses(images).values()) == {"crashed"}


def test_rows_committed_before_the_worker_died_count(images: Path) -> None:
    worker = make_worker(images, model={"kind": "identity"})
    units = run_units(worker)
    unit = units.take()
    assert unit
    worker(unit)
    units.settle(LostUnit(unit.unit_id))  # it died before it could report
    assert units.take() is None
    assert units.finished
    assert set(statuses(images).values()) == {"ok"}


def test_a_late_result_of_a_lost_unit_is_left_unread(images: Path) -> None:
    worker = make_worker(images, model={"kind": "identity"})
    units = run_units(worker, images=1)
    unit = units.take()
    assert unit
    units.settle(LostUnit(unit.unit_id))
    assert units.settle(UnitResult("not at work")) == ({}, 0)
    again = units.take()
    assert again


def test_a_fatal_result_ends_the_run(images: Path) -> None:
    units = run_units(make_worker(images, model={"kind": "identity"}))
    unit = units.take()
    assert unit
    with pytest.raises(FatalError, match="no space left"):
        units.settle(UnitResult(unit.unit_id, fatal="no space left"))


def run_of_a_long_video(folder: Path) -> tuple[Worker, RunUnits]:
    """A worker, and the units of a video of 100 frames in four segments."""
    (folder / "in").mkdir()
    write_video(folder / "in/video.mp4", moving_frames(100, 64, 48), options={"g": "5"})
    worker = make_worker(folder, model={"kind": "identity"}, units={"segment_s": 1.0})
    return worker, run_units(worker)


def test_segments_of_a_video_are_units_of_the_run(tmp_path: Path) -> None:
    worker, units = run_of_a_long_video(tmp_path)
    video = units.take()
    assert video
    assert video.segment is None
    units.settle(worker(video))
    segments = [units.take() for _ in range(4)]
    assert units.take() is None
    lost, *others = [unit for unit in segments if unit]
    for unit in others:
        units.settle(worker(unit))
    units.settle(LostUnit(lost.unit_id))
    again = units.take()
    assert again == replace(lost, attempt=2)
    units.settle(worker(again))
    assert units.finished
    assert len(units.video_ids) == 1
    row = check_invariants(tmp_path / "out")["video.mp4"]
    assert (row["status"], row["num_frames"]) == ("ok", 100)
    assert not list((tmp_path / "out" / SEGMENTS).glob("*"))


@pytest.mark.parametrize("last", range(4))
def test_a_video_lost_while_it_is_joined_is_joined(tmp_path: Path, last: int, monkeypatch: pytest.MonkeyPatch) -> None:
    worker, units = run_of_a_long_video(tmp_path)
    video = units.take()
    assert video
    units.settle(worker(video))
    segments = [unit for unit in [units.take() for _ in range(4)] if unit]
    joining = segments.pop(last)
    for unit in segments:
        units.settle(worker(unit))
    with monkeypatch.context() as patch:
        patch.setattr("nst_ops.pipeline.video_segments._join", _die)
        with pytest.raises(SystemExit):
            worker(joining)
    units.settle(LostUnit(joining.unit_id))
    while unit := units.take():
        units.settle(worker(unit))
    assert units.finished
    assert check_invariants(tmp_path / "out")["video.mp4"]["num_frames"] == 100


def _die(*_: object) -> None:
    raise SystemExit  # as good as a SIGKILL: no stage takes it for an error of the video


def test_a_segment_that_kills_its_worker_fails_its_video(tmp_path: Path) -> None:
    worker, units = run_of_a_long_video(tmp_path)
    while unit := units.take():
        is_fatal = unit.segment and unit.segment.number == 1
        units.settle(LostUnit(unit.unit_id) if is_fatal else worker(unit))
    assert units.finished
    row = check_invariants(tmp_path / "out")["video.mp4"]
    assert (row["status"], row["attempts"]) == ("crashed", 3)


def test_a_shard_without_rows_goes_when_its_images_are_in_others(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = make_worker(images, model={"kind": "identity"}, shards={"format": "webdataset"})
    units = run_units(worker)
    for num_shards in (1, 2):  # all images in one, and the first of them in its own
        unit = units.take()
        assert unit
        with monkeypatch.context() as patch:
            patch.setattr(worker.manifest, "commit", _die)
            with pytest.raises(SystemExit):
                worker(unit)
        assert [path.suffix for path in visible_files(images / "out")] == [".tar"] * num_shards
        units.settle(LostUnit(unit.unit_id))
    while unit := units.take():
        units.settle(worker(unit))
    remove_unfinished_shards(worker.manifest)
    rows = read_manifest(images / "out")
    assert [row["status"] for row in rows] == ["ok"] * 3
    assert {row["output_uri"] for row in rows} == {str(path) for path in (images / "out").glob("*.tar")}
    assert not (images / "out" / PACKING).exists()
