"""Kill anything at any time: no finished work is lost, nothing is done twice, nothing is half-written."""

import os
import random
import signal
import subprocess
import threading
import time
from pathlib import Path

import av
import pytest
from job_runner import (
    ENVIRONMENT,
    check_invariants,
    job_command,
    read_manifest,
    run_job,
    visible_files,
    write_picture,
)
from media_factory import Sound, moving_pictures, write_film
from PIL import Image

KILLS = 10
ARGUMENTS = ("--model.kind", "identity", "--units.images", "3", "--video.preset", "slow")


def fill(source: Path) -> None:
    for index in range(40):
        suffix = (".png", ".jpg", ".webp")[index % 3]
        write_picture(source / f"{index % 4}" / f"picture {index}{suffix}", 300 + index, 200, seed=index)
    for index in range(12):
        write_film(source / f"film {index}.mp4", moving_pictures(60 + index, 320, 240), sounds=[Sound()])
    (source / "bad.jpg").write_bytes(b"no picture")
    (source / "notes.txt").write_text("no medium")


def complete(path: Path) -> bool:
    """Whether a file decodes to its end."""
    if path.suffix == ".mp4":
        with av.open(str(path)) as film:
            return film.streams.video[0].frames == sum(1 for _ in film.decode(video=0))
    with Image.open(path) as picture:
        picture.load()
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
            return False
        os.kill(job.pid, signal.SIGKILL)
    return True


@pytest.mark.ray
def test_a_job_killed_ten_times_ends_whole(tmp_path: Path) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    fill(source)
    num_items = len(visible_files(source))
    command = job_command(source, output, *ARGUMENTS)
    chance = random.Random(7)
    kills, seen = 0, {}
    while kills < KILLS:
        # The first row of a run is its own; then somewhere in the next few units, writes included.
        killed = kill_when_working(command, output, chance.uniform(0, 0.4))
        kills += killed
        rows = check_invariants(output)
        for name, row in seen.items():
            assert rows[name] == row, "a committed item was done again"
        for path in visible_files(output):
            if path.suffix in (".mp4", ".png", ".jpg", ".webp") and path.parent.name != "report":
                assert complete(path)
        seen = rows
        if not killed:  # all was done before the last kill: begin again with what is left, one more film
            extra = source / f"more {kills}.mp4"
            write_film(extra, moving_pictures(60, 320, 240))
            num_items += 1
    last = run_job(source, output, *ARGUMENTS)
    assert last.returncode == 3, last.stderr
    rows = check_invariants(output)
    assert len(rows) == num_items
    assert sorted(name for name, row in rows.items() if row["status"] != "ok") == ["bad.jpg", "notes.txt"]
    assert not [path for path in output.rglob("*") if path.name.startswith(".")]
    outputs = [path for path in visible_files(output) if path.suffix in (".mp4", ".png", ".jpg", ".webp")]
    assert len(outputs) == num_items - 2 + 1  # and the contact sheet


@pytest.mark.ray
@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="watches open files through /proc")
def test_a_file_that_kills_its_worker_is_quarantined_and_the_rest_is_done(tmp_path: Path) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    write_film(source_film := _folder(source) / "poison.mp4", moving_pictures(200, 320, 240))
    for index in range(3):
        write_picture(source / f"{index}.png", seed=index)
        write_film(source / f"film {index}.mp4", moving_pictures(20, 64, 48))
    kills: list[int] = []
    done = threading.Event()
    watcher = threading.Thread(target=_kill_whoever_opens, args=(source_film, kills, done))
    watcher.start()
    job = run_job(source, output, *ARGUMENTS, "--workers.attempts", "2")
    done.set()
    watcher.join()
    assert job.returncode == 3, job.stderr
    rows = check_invariants(output)
    assert len(rows) == 7
    assert rows["poison.mp4"]["status"] == "crashed"
    assert rows["poison.mp4"]["attempts"] == 2
    assert len(kills) == 2
    assert all(row["status"] == "ok" for name, row in rows.items() if name != "poison.mp4")
    again = run_job(source, output, *ARGUMENTS, "--retry-failed")  # nobody kills it now
    assert again.returncode == 0, again.stderr
    assert check_invariants(output)["poison.mp4"]["status"] == "ok"


def _folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def _kill_whoever_opens(path: Path, kills: list[int], done: threading.Event) -> None:
    """What a decoder that crashes on one file looks like from outside: its process is gone."""
    while not done.wait(0.01):
        for process in Path("/proc").iterdir():
            if not process.name.isdigit() or int(process.name) in (os.getpid(), *kills):
                continue
            try:
                is_worker = b"_UnitActor" in (process / "cmdline").read_bytes()
                holds = is_worker and any(os.readlink(fd) == str(path) for fd in (process / "fd").iterdir())
            except OSError:
                continue
            if holds:
                kills.append(int(process.name))
                os.kill(int(process.name), signal.SIGKILL)
