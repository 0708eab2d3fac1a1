"""Both executors do the same: what a run makes of its units, and how it ends, whatever dies on the way."""

import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import psutil
import pytest
from faulty_models import FAULTY, LOST, die_with_scratch, workers_of, write_red_image
from job_runner import ENVIRONMENT, ROOT, check_invariants, read_manifest, run_job, visible_files, write_image
from media_factory import Sound, moving_frames, write_video
from PIL import Image
from planning import units_of

from nst_ops.collection.manifest import SCHEMA, Manifest
from nst_ops.config import ConfigError, FatalError, StylizeConfig
from nst_ops.pipeline.executors.local import LocalExecutor
from nst_ops.pipeline.retry import RunUnits
from nst_ops.pipeline.run import stylize_collection
from nst_ops.pipeline.run_spec import new_run_spec
from nst_ops.pipeline.worker import Worker
from nst_ops.storage import Folder
from nst_ops.stylizers.registry import KINDS

STOPPED = "stopped: run the same command again to go on"
ON_BOTH = pytest.mark.parametrize(
    "runs", ["local", pytest.param("ray", marks=[pytest.mark.ray, pytest.mark.slow])], indirect=True
)


@dataclass
class Runs:
    """Runs of a folder ``in`` into a folder ``out``, by a model that fails as told."""

    root: Path
    executor: str
    ray_address: str = ""

    @property
    def source(self) -> Path:
        return self.root / "in"

    @property
    def output(self) -> Path:
        return self.root / "out"

    @property
    def switch(self) -> Path:
        return self.root / "switch"

    def config(self, fault: str = "", **sections: object) -> StylizeConfig:
        self.switch.write_text(fault)
        model = {"kind": "faulty", "checkpoint": str(self.switch)}
        sections = {"model": model, "executor": self.executor, **sections}
        return StylizeConfig(input=str(self.source), output=str(self.output), **sections)

    def command(self, fault: str = "", *arguments: str) -> list[str]:
        self.switch.write_text(fault)
        paths = ["--input", str(self.source), "--output", str(self.output)]
        model = ["--model.kind", "faulty", "--model.checkpoint", str(self.switch)]
        executor = ["--executor", self.executor, *(["--ray_address", self.ray_address] * bool(self.ray_address))]
        script = str(Path(__file__).parents[1] / "faulty_models.py")
        return [sys.executable, script, *paths, *model, *executor, *arguments]

    def run(self, fault: str = "", *arguments: str) -> subprocess.CompletedProcess[str]:
        command = self.command(fault, *arguments)
        return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, env=ENVIRONMENT)

    def workers(self) -> list[psutil.Process]:
        """The worker processes of this run that live."""
        pids = (int(path.suffix[1:]) for path in self.root.glob("switch.*"))
        found = []
        for pid in pids:
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(pid)
                if process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found


@pytest.fixture
def runs(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    monkeypatch.setitem(KINDS, FAULTY.name, FAULTY)
    executor = getattr(request, "param", "local")
    return Runs(tmp_path, executor, request.getfixturevalue("cluster") if executor == "ray" else "")


def statuses(output: Path) -> dict[str, object]:
    return {name: row["status"] for name, row in check_invariants(output).items()}


def fill(source: Path, num_images: int = 6) -> None:
    for index in range(num_images):
        write_image(source / f"{index}.png", seed=index)
    write_video(source / "video.mp4", moving_frames(10, 64, 48), sounds=[Sound()])


@contextlib.contextmanager
def working(runs: Runs, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Start a slow job of many units, in a process group as of a terminal; its first rows are there."""
    command = runs.command("slow", "--units.images", "2", *arguments)
    with subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as job:
        while job.poll() is None and not read_manifest(runs.output):
            time.sleep(0.05)
        assert job.poll() is None, job.communicate()[1]
        yield job


def goes_on(runs: Runs) -> None:
    """Check what a job that was stopped has left, and that the next one completes it and keeps its rows."""
    rows = check_invariants(runs.output)
    assert 0 < len(rows) < len(visible_files(runs.source))
    for path in visible_files(runs.output):
        if path.suffix == ".png" and path.parent == runs.output:
            with Image.open(path) as image:
                image.load()
    assert stylize_collection(runs.config(units={"images": 2})).exit_code == 0
    after = check_invariants(runs.output)
    assert set(after) == {path.name for path in visible_files(runs.source)}
    assert rows.items() <= after.items(), "a committed item was done again"
    assert not [path for path in runs.output.rglob("*") if path.name.startswith(".")]


@pytest.mark.parametrize("runs", ["local", pytest.param("ray", marks=pytest.mark.ray)], indirect=True)
def test_a_collection_from_first_run_to_last(runs: Runs) -> None:
    source, output = runs.source, runs.output
    write_image(source / "a.png")
    write_image(source / "deep" / "b.jpg", 64, 64, seed=1)
    write_video(source / "video with sound.mp4", moving_frames(10, 64, 48), sounds=[Sound()])
    (source / "bad.jpg").write_bytes(b"no image")
    (source / "notes.txt").write_text("no medium")

    def config_of(**sections: object) -> StylizeConfig:
        return runs.config(**{"model": {"kind": "identity"}, **sections})

    # As a person starts it; then from here.
    first = run_job(source, output, "--model.kind", "identity", ray_address=runs.ray_address)
    assert first.returncode == 3, first.stderr
    assert "3 ok, 1 failed, 0 crashed, 1 skipped" in first.stdout
    assert "UnreadableImageError" in first.stdout
    rows = check_invariants(output)
    assert set(rows) == {"a.png", "b.jpg", "video with sound.mp4", "bad.jpg", "notes.txt"}
    assert rows["notes.txt"]["status"] == "skipped"
    assert (output / "report" / "contact_sheet.png").is_file()
    record = json.loads((output / "run.json").read_text())
    assert record["fingerprint"]["style"] == "identity"
    assert record["versions"]["ray"]
    assert list(pd.read_parquet(output / "manifest").columns) == SCHEMA.names
    assert not [path for path in output.rglob("*") if path.name.startswith(".")]

    again = stylize_collection(config_of())
    assert again.exit_code == 3
    assert "(5 by earlier runs)" in again.table()
    assert check_invariants(output) == rows  # nothing was done twice: the rows are the same to the hour

    with pytest.raises(ConfigError, match=r"video\.crf was 18, is now 30"):
        stylize_collection(config_of(video={"crf": 30}))

    write_image(source / "bad.jpg", seed=2)  # mended, and so done again without being asked
    write_image(source / "deep" / "b.jpg", 64, 64, seed=3)  # changed
    assert stylize_collection(config_of()).exit_code == 0
    last = check_invariants(output)
    assert last["b.jpg"]["output_sha256"] != rows["b.jpg"]["output_sha256"]
    assert last["a.png"] == rows["a.png"]
    assert len(last) == 5


@ON_BOTH
@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        ("kill", "WorkerCrashedError", "killed its worker process"),
        ("raise", "WorkerCrashedError", "RuntimeError: device lost"),
        ("lose", "WorkerCrashedError", f"RuntimeError: {LOST}"),
        pytest.param("hang", "ItemTimeoutError", "made no progress for 8 s (workers.item", marks=pytest.mark.slow),
    ],
)
def test_what_fails_its_unit_is_quarantined(runs: Runs, fault: str, error: str, message: str) -> None:
    fill(runs.source)
    write_red_image(runs.source / "red.png")
    limit = {"workers": {"item_timeout_s": 8}} if fault == "hang" else {}
    gc.disable()  # no worker goes because garbage happens to be collected
    try:
        assert stylize_collection(runs.config(fault, units={"images": 4}, **limit)).exit_code == 3
        psutil.wait_procs(runs.workers(), timeout=20)
        assert not runs.workers()
    finally:
        gc.enable()
    rows = check_invariants(runs.output)
    red = rows.pop("red.png")
    assert (red["status"], red["attempts"], red["error_type"]) == ("crashed", 3, error)
    assert message in str(red["error_message"])
    assert {row["status"] for row in rows.values()} == {"ok"}
    assert len(rows) == 7
    again = stylize_collection(runs.config(units={"images": 4}, retry_failed=True))
    assert again.counts == {"ok": 8}


@ON_BOTH
def test_a_worker_that_cannot_start_is_one_line(runs: Runs) -> None:
    fill(runs.source)
    done = runs.run("no start")
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("fatal: ")]
    assert "no such device" in line
    assert "Traceback" not in done.stderr
    assert read_manifest(runs.output) == []


def test_a_worker_that_dies_at_its_start_ends_the_run(runs: Runs) -> None:
    fill(runs.source)
    with pytest.raises(FatalError, match="dies while it loads the model"):
        stylize_collection(runs.config("die at start"))
    assert read_manifest(runs.output) == []


@pytest.mark.slow
def test_a_worker_that_cannot_start_does_not_stop_the_others(runs: Runs) -> None:
    fill(runs.source, num_images=12)
    done = runs.run("one cannot start", "--units.images", "2", "--workers.count", "2")
    assert done.returncode == 0, done.stderr
    assert "no such device" in done.stderr
    assert set(statuses(runs.output).values()) == {"ok"}
    assert workers_of(runs.switch) == 1


@pytest.mark.slow
def test_a_worker_that_died_idle_is_replaced(runs: Runs) -> None:
    write_image(runs.source / "0.png")
    spec = new_run_spec(runs.config(), f"{runs.source}/")
    (unit,) = units_of(Worker(spec))
    with LocalExecutor(spec.config) as executor:
        for _ in range(2):  # before a call, and before a unit
            pid = executor.call(os.getpid)
            assert pid
            worker = psutil.Process(pid)
            worker.kill()
            psutil.wait_procs([worker], timeout=10)
            time.sleep(1)  # for the pool to notice
        units = RunUnits(spec, Manifest(Folder(spec.config.output)), iter([unit]))
        for outcome in executor.run(spec, units):
            units.settle(outcome)
    assert units.num_retries == 0
    assert statuses(runs.output) == {"0.png": "ok"}


def test_the_temporary_files_of_a_worker_that_died_go(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = runs.root / "tmp"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setattr(tempfile, "tempdir", None)
    with LocalExecutor(runs.config()) as executor:
        assert len(list(scratch.glob("nst-ops-scratch-*"))) == 1
        assert executor.call(die_with_scratch) is None
        assert len(list(scratch.glob("nst-ops-scratch-*"))) == 1
    assert not list(scratch.glob("nst-ops-scratch-*"))


def test_a_call_that_takes_too_long_is_given_up(runs: Runs) -> None:
    with LocalExecutor(runs.config()) as executor:
        assert executor.call(time.sleep, 100, limit_s=1) is None
        assert executor.call(os.getpid)


@pytest.mark.slow
@ON_BOTH
def test_rows_wait_for_a_storage_that_is_away(runs: Runs) -> None:
    fill(runs.source)
    write_red_image(runs.source / "red.png")
    with pytest.raises(FatalError, match=r"1 rows are left, the storage was away .*no answer"):
        stylize_collection(runs.config("away", units={"images": 4}))
    assert set(statuses(runs.output).values()) == {"ok"}
    assert len(read_manifest(runs.output)) == 7
    assert stylize_collection(runs.config(units={"images": 4})).counts == {"ok": 8}


@ON_BOTH
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_job_ends_at_once_and_goes_on(runs: Runs, stop: signal.Signals) -> None:
    fill(runs.source, num_images=30)
    with working(runs) as job:
        workers = runs.workers()
        assert workers
        if stop == signal.SIGINT:
            os.killpg(job.pid, stop)  # Ctrl-C reaches everything in the terminal
        else:
            job.send_signal(stop)
        _, errors = job.communicate(timeout=20)
    assert job.returncode == 1
    assert errors.strip().splitlines()[-1] == STOPPED
    assert "Traceback" not in errors
    if runs.executor == "local":
        assert not runs.workers()
    goes_on(runs)


@ON_BOTH
def test_a_killed_driver_leaves_no_worker_and_goes_on(runs: Runs) -> None:
    fill(runs.source, num_images=30)
    with working(runs) as job:
        workers = runs.workers()
        assert workers
        job.kill()
        psutil.wait_procs(workers, timeout=3 if runs.executor == "local" else 30)
        assert not runs.workers()
    goes_on(runs)


@ON_BOTH
def test_two_workers_share_the_segments_of_a_video(runs: Runs) -> None:
    runs.source.mkdir()
    write_video(runs.source / "video.mp4", moving_frames(100, 64, 48), options={"g": "5"})
    workers = {"count": 2, "cpus": 1} if runs.executor == "ray" else {"count": 2}
    summary = stylize_collection(runs.config("two", units={"segment_s": 1.0}, workers=workers))
    assert summary.counts == {"ok": 1}
    assert check_invariants(runs.output)["video.mp4"]["num_frames"] == 100
    assert workers_of(runs.switch) == 2


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.parametrize("runs", ["ray"], indirect=True)
def test_local_and_ray_make_the_same(runs: Runs) -> None:
    fill(runs.source)
    write_video(runs.source / "long.mp4", moving_frames(100, 64, 48), options={"g": "5"})
    (runs.source / "bad.png").write_bytes(b"no image")
    found = []
    for executor in ("local", "ray"):
        config = runs.config(executor=executor, units={"images": 2, "segment_s": 1.0})
        config = config.model_copy(update={"output": str(runs.root / executor)})
        assert stylize_collection(config).exit_code == 3
        changing = {"run_id", "worker", "finished_at", "output_uri"}
        rows = check_invariants(runs.root / executor)
        found.append(
            {
                name: {key: value for key, value in row.items() if key not in changing and key[-2:] != "_s"}
                for name, row in rows.items()
            }
        )
    assert found[0] == found[1]
    assert len(found[0]) == 9


def test_auto_does_without_ray_where_no_cluster_is(runs: Runs) -> None:
    fill(runs.source)
    code = f"""
import sys
import nst_ops.ray_cluster
from nst_ops.config import StylizeConfig
from nst_ops.pipeline.run import stylize_collection
from nst_ops.pipeline.executors.local import LocalExecutor
from nst_ops.pipeline.retry import RunUnits
from nst_ops.pipeline.run_spec import new_run_spec
from nst_ops.pipeline.worker import Worker
from nst_ops.storage import Folder

nst_ops.ray_cluster._find_cluster = lambda: None  # other tests may have started one
model = {{"kind": "identity"}}
config = StylizeConfig(input={str(runs.source)!r}, output={str(runs.output)!r}, model=model)
assert config.executor == "auto"
assert stylize_collection(config).exit_code == 0
assert not {{"ray", "torch"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100, cwd=ROOT)
    assert set(statuses(runs.output).values()) == {"ok"}


@pytest.mark.slow
def test_a_script_needs_no_guard_around_its_run(runs: Runs) -> None:
    fill(runs.source)
    script = runs.root / "script.py"
    script.write_text(f"""
import numpy as np
from nst_ops.config import StylizeConfig
from nst_ops.pipeline.run import stylize_collection
from nst_ops.pipeline.executors.local import LocalExecutor
from nst_ops.pipeline.retry import RunUnits
from nst_ops.pipeline.run_spec import new_run_spec
from nst_ops.pipeline.worker import Worker
from nst_ops.storage import Folder
from nst_ops.stylizers.registry import ModelKind, register

class Inverted:
    def __call__(self, frames_nhwc, styles=()):
        return 255 - frames_nhwc

register(ModelKind("inverted", lambda model, alpha: Inverted(), uses_device=False, warms_up=False))
print("begins")
model = {{"kind": "inverted"}}
summary = stylize_collection(
    StylizeConfig(input={str(runs.source)!r}, output={str(runs.output)!r}, model=model, executor="local")
)
print(summary.counts)
""")
    command = [sys.executable, str(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:2] == ["begins", "{'ok': 7}"]
    before, after = Image.open(runs.source / "0.png"), Image.open(runs.output / "0.png")
    assert after.getpixel((5, 5)) == tuple(255 - value for value in before.getpixel((5, 5)))
