"""Kill anything at any time: no finished work is lost, nothing is done twice, nothing is half-written."""

import os
import random
import signal
import subprocess
import threading
import time
from pathlib import Path

import av
import psutil
import pytest
from job_runner import ENVIRONMENT, check_invariants, job_command, read_manifest, run_job, visible_files, write_image
from media_factory import Sound, moving_frames, write_video
from PIL import Image

from nst_ops.config import StylizeConfig
from nst_ops.pipeline.run import stylize_collection

pytestmark = pytest.mark.slow

ARGUMENTS = ("--model.kind", "identity", "--units.images", "3", "--video.preset", "slow")
STYLIZED = (".mp4", ".png", ".jpg", ".webp")


def fill(source: Path) -> None:
    for index in range(40):
        suffix = (".png", ".jpg", ".webp")[index % 3]
        write_image(source / f"{index % 4}" / f"image {index}{suffix}", 300 + index, 200, seed=index)
    for index in range(12):
        write_video(source / f"video {index}.mp4", moving_frames(60 + index, 320, 240), sounds=[Sound()])
    (source / "bad.jpg").write_bytes(b"no image")
    (source / "notes.txt").write_text("no medium")


def is_complete(path: Path) -> bool:
    """Whether a file decodes to its end."""
    if path.suffix == ".mp4":
        with av.open(str(path)) as video:
            return video.streams.video[0].frames == sum(1 for _ in video.decode(video=0))
    with Image.open(path) as image:
        image.load()
    return True


def kill_when_working(command: list[str], output: Path, delay_s: float) -> bool:
    """Start the job and SIGKILL it ``delay_s`` after its first new row; False if it ended before."""
    before = len(read_manifest(output))
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, env=ENVIRONMENT, **quiet) as job:
        while job.poll() is None and len(read_manifest(output)) == before:
            time.sleep(0.05)
        time.sleep(delay_s)
        if job.poll() is not None:
            assert job.returncode in (0, 3), "it ended of itself, and not because all was done"
            return False
        os.kill(job.pid, signal.SIGKILL)
    return True


@pytest.mark.parametrize(("executor", "kills"), [("local", 10), pytest.param("ray", 3, marks=pytest.mark.ray)])
def test_a_job_killed_many_times_ends_whole(
    executor: str, kills: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    fill(source)
    num_items = len(visible_files(source))
    chance = random.Random(7)
    cluster = request.getfixturevalue("cluster") if executor == "ray" else ""
    num_kills, seen = 0, {}
    while num_kills < kills:
        # Only the driver dies, and the cluster lives on; but the first time a Ray of its own goes with it.
        address = cluster if num_kills or not cluster else "local"
        command = job_command(source, output, *ARGUMENTS, ray_address=address)
        # The first row of a run is its own; then somewhere in the next few units, writes included.
        killed = kill_when_working(command, output, chance.uniform(0, 0.4))
        num_kills += killed
        rows = check_invariants(output)
        for name, row in seen.items():
            assert rows[name] == row, "a committed item was done again"
        for path in visible_files(output):
            if path.suffix in STYLIZED and path.parent.name != "report":
                assert is_complete(path)
        seen = rows
        if not killed:  # all was done before the last kill: begin again with what is left, one more video
            extra = source / f"more {num_items}.mp4"  # a new one each time: a changed source is done again
            write_video(extra, moving_frames(60, 320, 240))
            num_items += 1
    last = run_job(source, output, *ARGUMENTS, ray_address=cluster)
    assert last.returncode == 3, last.stderr
    rows = check_invariants(output)
    assert len(rows) == num_items
    assert sorted(name for name, row in rows.items() if row["status"] != "ok") == ["bad.jpg", "notes.txt"]
    assert not [path for path in output.rglob("*") if path.name.startswith(".")]
    outputs = [path for path in visible_files(output) if path.suffix in STYLIZED]
    assert len(outputs) == num_items - 2 + 1  # and the contact sheet


def test_every_input_has_every_style_after_kills(tmp_path: Path, styles: Path, vit_adain: Path) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    for index in range(30):
        write_image(source / f"{index}.png", 200, 160, seed=index)
    (source / "bad.jpg").write_bytes(b"no image")
    arguments = ("--model.kind", "vit_adain", "--model.checkpoint", str(vit_adain), "--model.device", "cpu")
    arguments += ("--style.images", str(styles), "--style.mode", "each", "--units.images", "6")
    seen: dict[str, dict[str, object]] = {}
    for delay_s in (0.0, 0.2):
        kill_when_working(job_command(source, output, *arguments), output, delay_s)
        rows = check_invariants(output)
        assert seen.items() <= rows.items(), "a committed item was done again"
        seen = rows
    assert len(seen) < 31 * 3, "the kills came too late to show anything"
    last = run_job(source, output, *arguments)
    assert last.returncode == 3, last.stderr
    rows = check_invariants(output)
    assert seen.items() <= rows.items()
    assert set(rows) == {
        f"{style}/{path.name}" for path in visible_files(source) for style in ("amber", "moss", "navy")
    }
    assert {name for name, row in rows.items() if row["status"] != "ok"} == {
        f"{style}/bad.jpg" for style in ("amber", "moss", "navy")
    }


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="watches open files through /proc")
def test_a_file_that_kills_its_decoder_is_quarantined(tmp_path: Path) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    write_video(source / "poison.mp4", moving_frames(200, 320, 240))
    for index in range(3):
        write_image(source / f"{index}.png", seed=index)
        write_video(source / f"video {index}.mp4", moving_frames(20, 64, 48))
    config = StylizeConfig(
        input=str(source),
        output=str(output),
        executor="local",
        model={"kind": "identity"},
        video={"preset": "slow"},
        units={"images": 3},
        workers={"attempts": 2},
    )
    kills: list[int] = []
    done = threading.Event()
    watcher = threading.Thread(target=_kill_whoever_opens, args=(source / "poison.mp4", kills, done))
    watcher.start()
    try:
        assert stylize_collection(config).exit_code == 3
    finally:
        done.set()
        watcher.join()
    rows = check_invariants(output)
    assert len(rows) == 7
    assert rows["poison.mp4"]["status"] == "crashed"
    assert rows["poison.mp4"]["attempts"] == 2
    assert all(row["status"] == "ok" for name, row in rows.items() if name != "poison.mp4")
    # Nobody kills it now.
    assert stylize_collection(config.model_copy(update={"retry_failed": True})).exit_code == 0
    assert check_invariants(output)["poison.mp4"]["status"] == "ok"


def _kill_whoever_opens(path: Path, kills: list[int], done: threading.Event) -> None:
    """Kill processes as a decoder that crashes on one file would."""
    while not done.wait(0.01):
        for process in psutil.Process().children(recursive=True):
            try:
                folder = Path(f"/proc/{process.pid}/fd")
                holds = any(os.readlink(descriptor) == str(path) for descriptor in folder.iterdir())
            except OSError:
                continue
            if holds and process.pid not in kills:
                kills.append(process.pid)
                process.kill()
