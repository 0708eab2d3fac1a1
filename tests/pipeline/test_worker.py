"""A worker without Ray: what it writes and what it records."""

import hashlib
from pathlib import Path

import av
import numpy as np
import pytest
from job_runner import check_invariants, read_manifest, visible_files, write_image
from media_factory import Sound, moving_frames, write_video
from PIL import Image
from planning import spec_of, units_of

from nst_ops.collection.inputs import Source
from nst_ops.config import StylizeConfig
from nst_ops.pipeline.run_spec import new_run_spec
from nst_ops.pipeline.worker import Worker
from nst_ops.storage import StorageFullError


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    (tmp_path / "in").mkdir()
    return tmp_path / "in", tmp_path / "out"


def make_worker(source: Path, output: Path, **sections: object) -> Worker:
    config = StylizeConfig(input=str(source), output=str(output), **{"model": {"kind": "identity"}, **sections})
    return Worker(spec_of(config))


def stylize(worker: Worker) -> dict[str, dict[str, object]]:
    for unit in units_of(worker):
        result = worker(unit)
        assert not result.fatal
        assert not result.error
    return check_invariants(Path(worker.config.output))


def test_every_file_of_a_unit_gets_its_row(folders: tuple[Path, Path]) -> None:
    source, output = folders
    write_image(source / "a.png")
    write_image(source / "deep" / "b.jpg")
    (source / "bad.jpg").write_bytes(b"no image")
    (source / "empty.png").touch()
    (source / "text.mp4").write_text("no video")
    write_video(source / "c.mp4", moving_frames(5, 64, 48), sounds=[Sound()])
    rows = stylize(make_worker(source, output))
    assert {name: row["status"] for name, row in rows.items()} == {
        "a.png": "ok",
        "b.jpg": "ok",
        "bad.jpg": "failed",
        "empty.png": "failed",
        "text.mp4": "failed",
        "c.mp4": "ok",
    }
    assert rows["empty.png"]["error_type"] == "EmptyFileError"
    assert rows["c.mp4"]["num_frames"] == 5
    assert rows["c.mp4"]["audio_codec"] == "aac"
    assert (output / "deep" / "b.jpg").is_file()
    np.testing.assert_array_equal(np.asarray(Image.open(output / "a.png")), np.asarray(Image.open(source / "a.png")))


def test_a_file_keeps_its_resolution_for_print(folders: tuple[Path, Path]) -> None:
    source, output = folders
    Image.new("RGB", (40, 30)).save(source / "a.jpg", dpi=(300, 300))
    stylize(make_worker(source, output))
    with Image.open(output / "a.jpg") as image:
        assert image.info["dpi"] == (300, 300)


def test_an_animation_among_images_becomes_a_video(folders: tuple[Path, Path]) -> None:
    source, output = folders
    write_image(source / "a.png")
    frames = [Image.fromarray(frame) for frame in moving_frames(7, 40, 30)]
    frames[0].save(source / "moves.webp", save_all=True, append_images=frames[1:], duration=70)
    rows = stylize(make_worker(source, output))
    assert rows["moves.webp"]["kind"] == "video"
    assert rows["moves.webp"]["num_frames"] == 7
    with av.open(str(output / "moves.webp.mp4")) as video:
        times = [float(frame.time) for frame in video.decode(video=0)]
    np.testing.assert_allclose(times, np.arange(7) * 0.07, atol=1e-3)


def test_an_output_named_on_opening_never_replaces_another(folders: tuple[Path, Path]) -> None:
    source, output = folders
    frames = [Image.fromarray(frame) for frame in moving_frames(3, 40, 30)]
    frames[0].save(source / "moves.gif", save_all=True, append_images=frames[1:])
    frames[0].save(source / "still.gif")
    for name in ("moves.gif.mp4", "still.gif.mp4"):
        write_video(source / name, moving_frames(3, 32, 32))
    Image.new("RGBA", (20, 20)).save(source / "glass.png")
    (source / "glass.png").rename(source / "glass.jpg")
    write_image(source / "glass.jpg.png")
    rows = stylize(make_worker(source, output))
    collided = {name for name, row in rows.items() if row["error_type"] == "OutputCollisionError"}
    assert collided == {"moves.gif", "glass.jpg"}
    outputs = [row["output_uri"] for row in rows.values() if row["status"] == "ok"]
    assert len(outputs) == len(set(outputs)) == 4


def test_the_same_unit_gives_the_same_bytes(tmp_path: Path) -> None:
    source = tmp_path / "in"
    for index in range(5):
        write_image(source / f"{index}.jpg", 40 + 8 * (index // 2), 32, seed=index)
    write_video(source / "video.mp4", moving_frames(12, 64, 48))
    hashes = []
    for run in ("first", "second"):
        rows = stylize(make_worker(source, tmp_path / run))
        hashes.append({name: row["output_sha256"] for name, row in rows.items()})
    assert hashes[0] == hashes[1]


def test_a_unit_done_twice_leaves_each_row_once(folders: tuple[Path, Path]) -> None:
    source, output = folders
    for index in range(3):
        write_image(source / f"{index}.png", seed=index)
    worker = make_worker(source, output)
    (unit,) = units_of(worker)
    worker(unit)
    worker(unit)
    assert len(check_invariants(output)) == 3


def test_resize_shrinks_images_and_videos_to_the_longer_side(folders: tuple[Path, Path]) -> None:
    source, output = folders
    write_image(source / "wide.png", 200, 100)
    write_image(source / "small.png", 30, 20)
    write_video(source / "tall.mp4", moving_frames(3, 90, 160))
    rows = stylize(make_worker(source, output, resize={"max_side": 80}))
    assert (rows["wide.png"]["output_width"], rows["wide.png"]["output_height"]) == (80, 40)
    assert (rows["small.png"]["output_width"], rows["small.png"]["output_height"]) == (30, 20)
    assert (rows["tall.mp4"]["output_width"], rows["tall.mp4"]["output_height"]) == (44, 80)  # 4:2:0 is even


def test_a_damaged_video_leaves_no_output_and_a_remedy(folders: tuple[Path, Path]) -> None:
    source, output = folders
    write_video(source / "video.mp4", moving_frames(40, 64, 48))
    data = bytearray((source / "video.mp4").read_bytes())
    (source / "video.mp4").write_bytes(data[: len(data) // 2])
    row = stylize(make_worker(source, output))["video.mp4"]
    assert row["status"] == "failed"
    assert row["output_uri"] is None
    assert not [path for path in visible_files(output) if path.suffix == ".mp4"]
    assert "copy it again" in str(row["error_message"])


def test_an_image_beyond_the_memory_is_a_row_with_a_remedy(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, output = folders
    write_image(source / "big.png", 400, 400)
    write_image(source / "small.png", 16, 16)
    worker = make_worker(source, output, model={"kind": "johnson", "checkpoint": "starry_night", "device": "cpu"})
    # 400 x 400 at full width wants 117 MiB of feature maps; pretend that 50 MiB are free.
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 50 * 2**20})())
    monkeypatch.setattr("nst_ops.stylizers.memory.kept_bytes", lambda: 0)
    rows = stylize(worker)
    assert rows["big.png"]["error_type"] == "TooLargeError"
    assert "resize.max_side" in str(rows["big.png"]["error_message"])
    assert rows["small.png"]["status"] == "ok"


def test_a_full_disk_is_fatal_and_no_file_is_failed(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, output = folders
    write_image(source / "a.png")
    worker = make_worker(source, output)

    def full(*_: object) -> None:
        raise StorageFullError("no space left on the output")

    monkeypatch.setattr(worker.output, "atomic_write", full)
    (unit,) = units_of(worker)
    assert "no space left" in worker(unit).fatal
    assert read_manifest(output) == []


def test_an_unforeseen_error_of_the_network_writes_no_row(folders: tuple[Path, Path]) -> None:
    source, output = folders
    write_image(source / "a.png")
    worker = make_worker(source, output)

    def broken(frames_nhwc: np.ndarray, styles: object = ()) -> np.ndarray:
        raise RuntimeError("device lost")

    worker.stylizer = broken
    (unit,) = units_of(worker)
    assert worker(unit).error == "RuntimeError: device lost"
    assert read_manifest(output) == []


def test_a_gpu_that_is_lost_is_no_fault_of_an_item(folders: tuple[Path, Path]) -> None:
    source, output = folders
    write_image(source / "a.png")
    write_video(source / "b.mp4", moving_frames(3, 32, 32))
    worker = make_worker(source, output)

    def broken(frames_nhwc: np.ndarray, styles: object = ()) -> np.ndarray:
        raise RuntimeError("CUDA error: unspecified launch failure")

    worker.stylizer = broken
    for unit in units_of(worker):
        result = worker(unit)
        assert result.device_is_lost
        assert "unspecified launch failure" in result.error
    assert read_manifest(output) == []


@pytest.mark.parametrize(
    "name", ["with space.png", "it's.png", 'quo"te.png', "100%25.png", "a#b?.png", "ü漢字.png", "-n.png"]
)
def test_any_file_name_survives(folders: tuple[Path, Path], name: str) -> None:
    source, output = folders
    write_image(source / name)
    video = name.replace(".png", ".mp4")
    write_video(source / video, moving_frames(3, 32, 32))
    rows = stylize(make_worker(source, output))
    assert rows[name]["status"] == rows[video]["status"] == "ok"
    assert hashlib.sha256((output / name).read_bytes()).hexdigest() == rows[name]["output_sha256"]


def test_progress_counts_each_item_and_frame_once(folders: tuple[Path, Path]) -> None:
    source, output = folders
    write_image(source / "a.png")
    (source / "bad.png").write_bytes(b"x")
    write_video(source / "b.mp4", moving_frames(9, 32, 32))
    worker = make_worker(source, output)
    seen = [0, 0]

    def add(num_rows: int, num_frames: int) -> None:
        seen[0] += num_rows
        seen[1] += num_frames

    worker.telemetry.add = add
    stylize(worker)
    assert seen == [3, 9]


def test_workers_that_stand_elsewhere_find_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_image(tmp_path / "in" / "a.png")
    monkeypatch.chdir(tmp_path)
    spec = new_run_spec(StylizeConfig(input="in", output="out", model={"kind": "identity"}), Source.open("in").root)
    monkeypatch.chdir("/")
    assert spec.config.input == str(tmp_path / "in")
    assert stylize(Worker(spec))["a.png"]["status"] == "ok"
    assert (tmp_path / "out" / "a.png").is_file()
