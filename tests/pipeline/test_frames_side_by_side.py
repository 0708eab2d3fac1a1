"""Small frames on a CPU: each in one thread, side by side, in order, and the same whatever the number of threads."""

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from job_runner import check_invariants, read_manifest, write_image
from media_factory import moving_frames, write_video
from planning import spec_of, units_of
from shard_factory import image_bytes, write_tar

from nst_ops.config import StylizeConfig
from nst_ops.media.images import UInt8Array
from nst_ops.pipeline.prefetch import Timings
from nst_ops.pipeline.worker import Worker
from nst_ops.stylizers import Style
from nst_ops.stylizers.registry import KINDS, ModelKind

PARTNER_S = 30.0
"""Seconds that a frame waits for another one beside it."""
SMALL_PIXELS = 64 * 64


@pytest.fixture(autouse=True)
def threads_of_torch() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@dataclass
class Recorder:
    """Changes nothing; knows how many calls were at work at once, and in how many threads of torch."""

    meet: threading.Barrier | None = None
    fail: Callable[[UInt8Array], None] = lambda frames_nhwc: None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    calls: list[tuple[int, int, int]] = field(default_factory=list)  # pixels, calls at once, threads of torch
    at_work: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, frames_nhwc: UInt8Array, styles: Sequence[Style] = ()) -> UInt8Array:
        with self.lock:
            self.at_work += 1
            pixels = frames_nhwc.shape[1] * frames_nhwc.shape[2]
            self.calls.append((pixels, self.at_work, torch.get_num_threads()))
        if self.meet and pixels <= SMALL_PIXELS:
            self.meet.wait(PARTNER_S)
        self.fail(frames_nhwc)
        with self.lock:
            self.at_work -= 1
        return frames_nhwc


def make_worker(
    source: Path, stylizer: Recorder, monkeypatch: pytest.MonkeyPatch, num_threads: int = 2, **sections: object
) -> Worker:
    kind = ModelKind("recorder", lambda model, alpha: stylizer, one_thread_pixels=SMALL_PIXELS, smooths=False)
    monkeypatch.setitem(KINDS, kind.name, kind)
    config = StylizeConfig(
        input=str(source), output=str(source.parent / "out"), **{"model": {"kind": "recorder"}, **sections}
    )
    return Worker(spec_of(config), num_threads)


def stylize(worker: Worker) -> dict[str, dict[str, object]]:
    for unit in units_of(worker):
        result = worker(unit)
        assert not result.fatal
        assert not result.error
    return check_invariants(Path(worker.config.output))


def test_small_images_of_any_size_meet_and_large_ones_are_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = [(40, 30), (50, 20), (200, 100), (48, 48), (33, 21), (300, 80), (300, 80)]
    for number, size in enumerate(sizes):
        write_image(tmp_path / "in" / f"{number}.png", *size, seed=number)
    stylizer = Recorder(threading.Barrier(2))
    rows = stylize(make_worker(tmp_path / "in", stylizer, monkeypatch))
    assert [rows[f"{number}.png"]["status"] for number in range(len(sizes))] == ["ok"] * len(sizes)
    assert all((at_once, threads) == (1, 2) for pixels, at_once, threads in stylizer.calls if pixels > SMALL_PIXELS)
    assert all(threads == 1 for pixels, _, threads in stylizer.calls if pixels <= SMALL_PIXELS)
    assert len(stylizer.calls) == 6  # the last two in a batch


def test_images_of_a_shard_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    members = [(f"{number}.png", image_bytes(number, size=(40 + number, 30))) for number in range(4)]
    write_tar(tmp_path / "in" / "shard.tar", members)
    worker = make_worker(tmp_path / "in", Recorder(threading.Barrier(2)), monkeypatch)
    (unit,) = units_of(worker)
    assert not worker(unit).error
    assert [row["status"] for row in read_manifest(tmp_path / "out")] == ["ok"] * 4


def test_frames_of_a_video_meet_and_stay_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    frames = moving_frames(13, 48, 32)
    write_video(tmp_path / "in" / "video.mp4", frames)
    stylizer, turn = Recorder(), itertools.count()
    stylizer.fail = lambda _: time.sleep(0.05 * (next(turn) % 2))  # every other one takes longer
    worker = make_worker(tmp_path / "in", stylizer, monkeypatch, num_threads=3, video={"container": "frames"})
    row = stylize(worker)["video.mp4"]
    identity = StylizeConfig(
        input=str(tmp_path / "in"),
        output=str(tmp_path / "identity"),
        model={"kind": "identity"},
        video={"container": "frames"},
    )
    stylize(Worker(spec_of(identity)))
    outputs = [sorted((tmp_path / folder).rglob("*.png")) for folder in ("out", "identity")]
    assert len(outputs[0]) == 13
    assert [path.read_bytes() for path in outputs[0]] == [path.read_bytes() for path in outputs[1]]
    assert max(at_once for _, at_once, _ in stylizer.calls) == 3
    assert isinstance(row["stylize_s"], float)


def test_seconds_of_the_network_are_those_of_the_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight calls of 0.2 s, four at once, are 0.4 s of the worker; a large frame counts in full."""
    for number in range(8):
        write_image(tmp_path / "in" / f"{number}.png", 40, 30)
    write_image(tmp_path / "in" / "large.png", 200, 100)
    stylizer = Recorder(fail=lambda _: time.sleep(0.2))
    worker = make_worker(tmp_path / "in", stylizer, monkeypatch, num_threads=4)
    (unit,) = units_of(worker)
    result = worker(unit)
    rows = check_invariants(tmp_path / "out")
    assert result.timings.stylize_s == pytest.approx(sum(float(str(row["stylize_s"])) for row in rows.values()))
    assert 8 * 0.2 / 4 + 0.2 <= result.timings.stylize_s < 8 * 0.2 / 4 + 0.2 + 0.3
    assert float(str(rows["large.png"]["stylize_s"])) >= 0.2


def test_an_image_too_large_in_a_thread_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(6):
        write_image(tmp_path / "in" / f"{number}.png", 40 + number, 30)

    def too_large(frames_nhwc: UInt8Array) -> None:
        if frames_nhwc.shape[2] == 43:
            raise MemoryError("needs more")

    rows = stylize(make_worker(tmp_path / "in", Recorder(fail=too_large), monkeypatch))
    assert rows["3.png"]["error_type"] == "TooLargeError"
    assert {name for name, row in rows.items() if row["status"] == "ok"} == {f"{n}.png" for n in (0, 1, 2, 4, 5)}


def test_a_device_lost_in_a_thread_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(6):
        write_image(tmp_path / "in" / f"{number}.png", 40 + number, 30)

    def lost(frames_nhwc: UInt8Array) -> None:
        if frames_nhwc.shape[2] == 43:
            raise RuntimeError("CUDA error: unspecified launch failure")

    worker = make_worker(tmp_path / "in", Recorder(fail=lost), monkeypatch)
    (unit,) = units_of(worker)
    result = worker(unit)
    assert result.device_is_lost
    assert result.error.startswith("RuntimeError")
    assert read_manifest(tmp_path / "out") == []


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("freeze", [False, True])
def test_the_number_of_threads_changes_no_bit(network: Path, tmp_path: Path, precision: str, freeze: bool) -> None:
    source = tmp_path / "in"
    for number, size in enumerate([(200, 120), (160, 130), (211, 97)]):
        write_image(source / f"{number}.png", *size, seed=number)
    write_video(source / "video.mp4", moving_frames(7, 192, 128))
    hashes = []
    for num_threads in (1, 2, 3):
        config = StylizeConfig(
            input=str(source),
            output=str(tmp_path / f"out{num_threads}"),
            model={"checkpoint": str(network), "device": "cpu", "precision": precision},
            temporal={"freeze_statistics": freeze},
            video={"container": "frames"},
        )
        stylize(Worker(spec_of(config), num_threads))
        outputs = sorted((tmp_path / f"out{num_threads}").rglob("*.png"))
        assert len(outputs) == 3 + 7
        hashes.append([path.read_bytes() for path in outputs])
    assert hashes[0] == hashes[1] == hashes[2]


def test_seconds_from_many_threads_are_all_counted() -> None:
    timings = Timings()
    threads = [
        threading.Thread(target=lambda: [timings.add(Timings(stylize_s=1)) for _ in range(2000)]) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert timings.stylize_s == 16_000


def test_a_large_frame_leaves_the_threads_as_they_were(network: Path, tmp_path: Path) -> None:
    config = StylizeConfig(
        input=str(tmp_path), output=str(tmp_path / "out"), model={"checkpoint": str(network), "device": "cpu"}
    )
    worker = Worker(spec_of(config), 2)
    for side, threads in ((64, 1), (1040, 2), (64, 1)):
        worker.stylize(np.zeros((1, side, side, 3), np.uint8), [None], Timings())
        assert torch.get_num_threads() == threads
