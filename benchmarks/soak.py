"""Kill a run a thousand times, at every moment of it, and look after each kill whether anything is lost.

    python benchmarks/soak.py --kills 1000 --output benchmarks/soak.json

A campaign is a small collection and an output: jobs are started one after the other and killed, until the last one is
left to end. After each kill the output is held against its manifest, against what was there before, and against the
output of a job that nobody disturbed. The same seed draws the same kills.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import psutil
from PIL import Image
from pydantic import Field, PositiveInt
from rich.console import Console
from rich.table import Table

from benchmarks.kill_points import MOMENTS, PLACES, VICTIMS, Kill, Plan, kill_workers
from nst_ops.collection.constants import MANIFEST, REPORT, RUN_FILE
from nst_ops.collection.integrity import verify
from nst_ops.collection.integrity_database import ProblemKind
from nst_ops.collection.manifest import Manifest
from nst_ops.config import JobConfig, parse_config
from nst_ops.storage import Folder

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tests"))  # what makes the collections, and the S3 server

Name = Literal["images", "packed", "shards", "videos", "s3", "full_disk"]
JOB_S = 900.0
"""Seconds after which a job is taken for hung."""
_ANY = "any"
_ENDS_S = 30.0  # seconds that workers have to notice that their driver is dead, on a machine that is busy
_S3_FAULTS = 0.04  # of the requests
_S3_KINDS = "slow_down", "internal_error", "reset", "lost", "cut"


class SoakConfig(JobConfig):
    """Kill runs at random moments, and count what is lost, done twice, or half-written."""

    epilog: ClassVar[str] = "example:\n  python benchmarks/soak.py --kills 1000 --output benchmarks/soak.json\n"

    kills: PositiveInt = 100
    """Number of kills."""
    seed: int = 0
    """Seed of the draw of collections, moments and victims."""
    collections: list[Name] = Field(default=list(get_args(Name)))
    """Collections to take turns with. s3 needs the server of the tests (make .venv-s3/.ready); full_disk needs root,
    to mount a small file system."""
    keep: str = ""
    """Folder to keep the campaigns in that something was wrong with. Default: none are kept."""
    output: str = ""
    """JSON file to write the figures to, after each campaign. Default: none."""


@dataclass
class Tally:
    """What has happened so far."""

    kills: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """Kills by collection, moment and victim."""
    counts: Counter[str] = field(default_factory=Counter)
    """Jobs, campaigns, checks, stops by a full disk."""
    faults: Counter[str] = field(default_factory=Counter)
    """Requests to S3 that failed, by kind."""
    problems: list[str] = field(default_factory=list)

    @property
    def num_kills(self) -> int:
        """Kills so far."""
        return self.kills.total()


@dataclass
class Expected:
    """Output of a job that nobody disturbed."""

    rows: dict[tuple[str, ...], dict[str, Any]]
    files: dict[str, str]
    """Hash of each file that a user sees, by its path."""
    elapsed_s: float


def _fill_images(source: Path) -> None:
    generator = np.random.default_rng(0)
    for index in range(20):
        suffix = (".png", ".jpg", ".webp", ".tif", ".bmp")[index % 5]
        path = source / f"{index % 3}" / f"image {index}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (40 + index, 60, 3), np.uint8)).save(path)
    frames = [Image.fromarray(generator.integers(0, 256, (24, 32, 3), np.uint8)) for _ in range(3)]
    frames[0].save(source / "animated.gif", save_all=True, append_images=frames[1:])
    (source / "bad.jpg").write_bytes(b"no image")
    (source / "notes.txt").write_text("no medium")


def _fill_shards(source: Path) -> None:
    import shard_factory

    source.mkdir(parents=True)
    for number in range(3):
        members = [(f"{index:03d}.png", shard_factory.image_bytes(10 * number + index)) for index in range(6)]
        labels = [(f"{index:03d}.cls", str(index).encode()) for index in range(6)]
        both = [member for pair in zip(members, labels, strict=True) for member in pair]
        shard_factory.write_tar(source / f"{number}.tar", [*both, ("006.jpg", b"no image")])
    images = [shard_factory.image_bytes(50 + index) for index in range(6)]
    shard_factory.write_hf_parquet(source / "table.parquet", images, label=[f"{index:03d}" for index in range(6)])
    (source / "cut.tar").write_bytes((source / "0.tar").read_bytes()[:4000])


def _fill_videos(source: Path) -> None:
    import media_factory

    source.mkdir(parents=True)
    sound = media_factory.Sound(duration_s=4)
    for index, suffix in enumerate((".mp4", ".mkv", ".mov")):
        frames = media_factory.moving_frames(38 + index, 64, 48)
        options = {"g": "8", "preset": "ultrafast", "qp": "20"}  # keyframes at which it can be cut
        times = {"time_base": Fraction(1, 10)}
        media_factory.write_video(source / f"video {index}{suffix}", frames, options=options, sounds=[sound], **times)
    whole = (source / "video 0.mp4").read_bytes()
    (source / "cut.mp4").write_bytes(whole[: len(whole) // 2])


def _fill_mixed(source: Path) -> None:
    _fill_images(source)
    _fill_videos(source / "clips")


@dataclass(frozen=True)
class Collection:
    """A kind of collection, and what its jobs are told."""

    fill: Callable[[Path], None]
    arguments: tuple[str, ...] = ()
    moments: tuple[str, ...] = tuple(MOMENTS)
    same_files: bool = True
    """Whether its files are the same, however often a worker dies: what is packed goes into other shards then."""


_SEGMENTS = "--units.segment_s", "1", "--video.preset", "ultrafast"
_IMAGES = "--units.images", "2"
_PACKED = "--shards.format", "webdataset", "--shards.target_mb", "0.03"
_NO_JOIN = tuple(moment for moment in MOMENTS if moment != "join")
COLLECTIONS: dict[Name, Collection] = {
    "images": Collection(_fill_images, _IMAGES, _NO_JOIN),
    "packed": Collection(_fill_images, (*_IMAGES, *_PACKED), _NO_JOIN, same_files=False),
    "shards": Collection(_fill_shards, (), _NO_JOIN),
    "videos": Collection(_fill_videos, _SEGMENTS),
    "s3": Collection(_fill_mixed, (*_IMAGES, *_SEGMENTS, "--storage.attempts", "8")),
    "full_disk": Collection(_fill_mixed, (*_IMAGES, *_SEGMENTS)),
}


class Jobs:
    """Starts jobs in forks of a process that has imported everything: a start costs a tenth."""

    def __init__(self) -> None:
        variables = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        command = [sys.executable, "-m", "benchmarks.kill_points"]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._server = subprocess.Popen(command, env=variables, cwd=ROOT, text=True, **pipes)

    def start(self, arguments: list[str], variables: dict[str, str], log: Path) -> int:
        """Start a job; return its process."""
        assert self._server.stdin
        self._server.stdin.write(json.dumps({"arguments": arguments, "variables": variables, "log": str(log)}) + "\n")
        self._server.stdin.flush()
        return int(self._answer()["process"])

    def wait(self) -> int:
        """Wait until the job has ended; return its exit code, below 0 for a signal."""
        return int(self._answer()["code"])

    def close(self) -> None:
        """End the process."""
        assert self._server.stdin
        self._server.stdin.close()
        self._server.wait()

    def _answer(self) -> dict[str, Any]:
        assert self._server.stdout
        return dict(json.loads(self._server.stdout.readline()))


class Campaign:
    """Jobs on one collection into one output, one after the other."""

    def __init__(self, soak: Soak, name: Name, folder: Path, source: str, output: str) -> None:
        self.soak, self.name, self.folder = soak, name, folder
        self.collection, self.source, self.output = COLLECTIONS[name], source, output
        self.seen: dict[tuple[str, ...], dict[str, Any]] = {}
        self.scratch = folder / "scratch"
        self.scratch.mkdir(parents=True)
        self.variables = {"TMPDIR": str(self.scratch)}
        self.log = folder / "log.txt"
        self.expected: Expected | None = None
        self.num_jobs = 0

    def run(self, kills: tuple[Kill, ...] = (), any_after_s: float | None = None, victim: str = "") -> int:
        """Run a job with these kills, or one at any moment; check the output after each; return the exit code."""
        self.num_jobs += 1
        self.soak.tally.counts["jobs"] += 1
        plan = Plan(str(self.folder / f"kills-{self.num_jobs}"), kills)
        os.mkdir(plan.folder)
        arguments = ["--executor", "local", "--input", self.source, "--output", self.output, "--model.kind", "soak"]
        arguments += ["--workers.attempts", "10", "--report.pairs", "2", *self.collection.arguments]
        with self.log.open("a") as log:
            print(f"== job {self.num_jobs}, {kills} {any_after_s} {victim}", file=log)
        job = self.soak.jobs.start(arguments, plan.variables() | self.variables, self.log)
        started, num_done = time.monotonic(), 0
        while not _has_ended(job):
            time.sleep(0.01)
            elapsed_s = time.monotonic() - started
            if elapsed_s > JOB_S:
                self._problem("a job hangs")
                os.killpg(job, signal.SIGKILL)
            if any_after_s is not None and elapsed_s >= any_after_s:
                self._count(_ANY, victim)
                if victim != "driver":
                    kill_workers(job)
                if victim != "worker":
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(job, signal.SIGKILL)
                any_after_s = None
                self._check_paused(job)
            for number in plan.done()[num_done:]:
                num_done += 1
                self._count(kills[number].moment, kills[number].victim)
                if kills[number].victim == "worker":
                    self._check_paused(job)
        for number in plan.done()[num_done:]:
            self._count(kills[number].moment, kills[number].victim)
        code = self.soak.jobs.wait()
        if self.soak.chance.random() < 0.7:  # else the next driver begins while the last one's workers still write
            self._wait_for_workers(job)
        self.check()
        return code

    def _count(self, moment: str, victim: str) -> None:
        self.soak.tally.kills[self.name, moment, victim] += 1

    def _check_paused(self, job: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(job, signal.SIGSTOP)
            try:
                self.check()
            finally:
                os.kill(job, signal.SIGCONT)

    def _wait_for_workers(self, job: int) -> None:
        until = time.monotonic() + _ENDS_S
        while left := _session(job):
            if time.monotonic() > until:
                self._problem(f"processes outlive their driver: {[process.cmdline() for process in left]}")
                os.killpg(job, signal.SIGKILL)
                return
            time.sleep(0.05)

    def check(self) -> None:
        """Hold the output against its manifest, against itself before, and against the expected one."""
        self.soak.tally.counts["checks"] += 1
        folder = Folder(self.output)
        if not folder.exists(RUN_FILE):
            if self.seen:
                self._problem(f"{RUN_FILE} is lost")
            return
        quick = bool(self.expected) and self.collection.same_files  # contents are compared with the expected ones
        report = verify(folder, quick=quick, threads=2)
        for kind, examples in report.examples.items():
            if kind != ProblemKind.EXTRA:
                self._problem(f"{kind.meaning}: {examples}")
        rows = self.rows()
        for key, row in self.seen.items():
            if key not in rows:
                self._problem(f"a row is lost: {row}")
            elif rows[key] != row:
                self._problem(f"done twice: {row} is now {rows[key]}")
        self.seen = rows
        if self.expected:
            for path, sha256 in self.files().items() if self.collection.same_files else ():
                if self.expected.files.get(path) != sha256:
                    self._problem(f"half a file, or one that is not to be there: {path}")
            for key, row in rows.items():
                if _essence(row) != self.expected.rows.get(key):
                    self._problem(f"another outcome: {_essence(row)} for {self.expected.rows.get(key)}")

    def check_end(self, code: int) -> None:
        """Look whether the last job has left everything in order, and nothing else."""
        if code not in (0, 3):
            self._problem(f"the last job ends with exit code {code}: {self.log.read_text()[-1000:]}")
            return
        report = verify(Folder(self.output), threads=2)
        if not report.is_whole:
            self._problem(f"not whole: {report.examples}")
        hidden = [name for name in Folder(self.output).list() if name.startswith(".")]
        if hidden:
            self._problem(f"left over: {hidden}")
        if scratch := [path.name for path in self.scratch.glob("nst-ops-*") if path.is_dir()]:
            self._problem(f"left over among the temporary files: {scratch}")
        if self.expected:
            if {key: _essence(row) for key, row in self.rows().items()} != self.expected.rows:
                self._problem("the rows differ from those of a job that nobody disturbed")
            if self.collection.same_files and self.files() != self.expected.files:
                self._problem("the files differ from those of a job that nobody disturbed")

    def rows(self) -> dict[tuple[str, ...], dict[str, Any]]:
        """Return the rows by their source, below the input, and style."""
        rows = Manifest(Folder(self.output)).table().to_pylist()
        root = Folder(self.source).uri()
        return {(row["source_uri"].removeprefix(root), row["source_member"] or "", row["style"]): row for row in rows}

    def files(self) -> dict[str, str]:
        """Return the hash of each stylized file."""
        folder = Folder(self.output)
        own = (MANIFEST, REPORT, RUN_FILE)
        paths = sorted(file.relpath for file in folder.files())
        paths = [path for path in paths if not path.startswith(".") and path.split("/")[0] not in own]
        return {path: hashlib.sha256(folder.read_bytes(path)).hexdigest() for path in paths}

    def _problem(self, text: str) -> None:
        self.soak.problem(self, text)


class Soak:
    """All campaigns."""

    def __init__(self, config: SoakConfig, folder: Path) -> None:
        self.config, self.folder = config, folder
        self.chance = random.Random()
        self.tally, self.jobs = Tally(), Jobs()
        self._expected: dict[Name, Expected] = {}
        self._s3: Any = None
        self._started = time.monotonic()

    def run(self) -> Tally:
        """Run campaigns until there were enough kills."""
        with contextlib.ExitStack() as stack:
            stack.callback(self.jobs.close)
            if "s3" in self.config.collections:
                from s3_server import reached_by, running_s3_server

                self._s3 = stack.enter_context(running_s3_server())
                stack.enter_context(reached_by(self._s3.endpoint))
            while self.tally.num_kills < self.config.kills:
                for name in self.config.collections:
                    if self.tally.num_kills < self.config.kills:
                        self._campaign(name)
                        self._write()
                        done = f"{self.tally.num_kills} kills, {len(self.tally.problems)} problems"
                        print(f"{time.strftime('%T')} {name}: {done}, {dict(self.tally.counts)}", flush=True)
        return self.tally

    def problem(self, campaign: Campaign, text: str) -> None:
        """Note a problem."""
        where = f"{campaign.name}, campaign {self.tally.counts['campaigns']}, job {campaign.num_jobs}"
        self.tally.problems.append(f"{where}: {text}"[:2000])
        print(f"PROBLEM {where}: {text}", flush=True)

    def _campaign(self, name: Name) -> None:
        self.tally.counts["campaigns"] += 1
        self.chance = random.Random(f"{self.config.seed} {self.tally.counts['campaigns']}")
        source = self._source(name)
        if name not in self._expected:
            self._expected[name] = self._undisturbed(name, source)
        expected, chance = self._expected[name], self.chance
        num_before = len(self.tally.problems)
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch, contextlib.ExitStack() as stack:
            folder = Path(scratch)
            output, inputs, proxy, disk = str(folder / "out"), str(source), None, None
            if name == "s3":
                proxy, inputs, output = self._on_s3(stack, source)
            if name == "full_disk":
                disk = stack.enter_context(SmallDisk(Path(output)))
            campaign = Campaign(self, name, folder, inputs, output)
            campaign.expected = expected
            if proxy:
                from s3_server import environment

                campaign.variables |= environment(proxy.endpoint)
            code = -signal.SIGKILL
            for _ in range(chance.randint(6, 14)):
                if disk:
                    disk.set_room(chance.randint(10, 120))
                code = self._killed_job(campaign, expected)
                if disk and code in (1, 2):
                    self.tally.counts["stops by a full disk"] += 1
                elif code in (0, 3):
                    break
                elif code != -signal.SIGKILL and not (proxy and code == 1):
                    self.problem(campaign, f"a job ends with exit code {code}")
            if disk:
                disk.set_room(None)
            if proxy:
                proxy.share = 0.0
            if code not in (0, 3):
                code = campaign.run()
            campaign.check_end(code)
            if proxy:
                self.tally.faults.update(proxy.faults)
            if len(self.tally.problems) > num_before and self.config.keep:
                kept = Path(self.config.keep, f"{self.config.seed}-{self.tally.counts['campaigns']}")
                shutil.copytree(folder, kept, dirs_exist_ok=True)

    def _killed_job(self, campaign: Campaign, expected: Expected) -> int:
        """Run a job with kills at moments of the draw, workers first; return its exit code."""
        chance = self.chance
        if chance.random() < 0.15:
            seconds = chance.uniform(0, 1.2 * expected.elapsed_s)
            return campaign.run(any_after_s=seconds, victim=chance.choice(VICTIMS))
        kills = [self._draw(campaign, "worker") for _ in range(chance.choice((0, 1, 2, 3, 4)))]
        kills.sort(key=self._order)
        if chance.random() < 0.85 or not kills:
            kills.append(self._draw(campaign, chance.choice(VICTIMS[1:])))
        return campaign.run(tuple(kills))

    def _draw(self, campaign: Campaign, victim: str) -> Kill:
        chance = self.chance
        moment = chance.choice(campaign.collection.moments)
        number = 1 if moment in ("plan", "report") else 1 + min(int(chance.expovariate(0.5)), 8)
        mean_s = 0.05 if campaign.name == "s3" else 0.005
        return Kill(moment, victim, number, chance.choice(PLACES), chance.expovariate(1 / mean_s))

    def _order(self, kill: Kill) -> int:
        """Return a rank by which later moments come later; a compaction is at the beginning, or anywhere."""
        return self.chance.randrange(7) if kill.moment == "compaction" else list(MOMENTS).index(kill.moment)

    def _source(self, name: Name) -> Path:
        source = self.folder / f"in-{name}"
        if not source.exists():
            COLLECTIONS[name].fill(source)
        return source

    def _undisturbed(self, name: Name, source: Path) -> Expected:
        """Run a job that is left alone, into a folder."""
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            campaign = Campaign(self, name, Path(scratch), str(source), f"{scratch}/out")
            started = time.monotonic()
            if (code := campaign.run()) not in (0, 3):
                raise RuntimeError(f"exit code {code}: {campaign.log.read_text()}")
            campaign.check_end(code)
            elapsed_s = time.monotonic() - started
            rows = {key: _essence(row) for key, row in campaign.rows().items()}
            return Expected(rows, campaign.files(), elapsed_s)

    def _on_s3(self, stack: contextlib.ExitStack, source: Path) -> tuple[Any, str, str]:
        """Put the collection into a bucket; return a proxy that lets requests fail, input and output."""
        from fault_proxy import FaultProxy
        from s3_server import client

        bucket = self._s3.new_bucket()
        client(self._s3.endpoint).put(str(source), f"{bucket}/in", recursive=True)
        seed = self.chance.randrange(2**32)
        proxy = stack.enter_context(FaultProxy(self._s3.endpoint, _S3_FAULTS, seed, _S3_KINDS))
        return proxy, f"{bucket}/in", f"{bucket}/out"

    def _write(self) -> None:
        if not self.config.output:
            return
        tally = self.tally
        by_moment: dict[str, Any] = {}
        for (name, moment, victim), count in sorted(tally.kills.items()):
            by_moment.setdefault(name, {}).setdefault(moment, {})[victim] = count
        record = {
            "command": " ".join(["python", *sys.argv]),
            "kills": tally.num_kills,
            "problems": tally.problems,
            **tally.counts,
            "elapsed_s": round(time.monotonic() - self._started),
            "kills_by_collection_moment_victim": by_moment,
            "faults_of_s3": dict(tally.faults),
        }
        Path(self.config.output).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


class SmallDisk(contextlib.AbstractContextManager["SmallDisk"]):
    """A file system in memory that is mounted as a folder, and may be full."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> SmallDisk:
        self._folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(self._folder)], check=True)
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", "--lazy", str(self._folder)], check=True)

    def set_room(self, kilobytes: int | None) -> None:
        """Leave this much room, or plenty."""
        used = shutil.disk_usage(self._folder).used // 1024
        size = 65536 if kilobytes is None else used + kilobytes
        subprocess.run(["mount", "-o", f"remount,size={size}k", str(self._folder)], check=True)


def _essence(row: dict[str, Any]) -> dict[str, Any]:
    """Return what is the same whenever and wherever a row is made."""
    names = ("status", "kind", "error_type", "output_member", "output_bytes", "output_sha256", "num_frames", "width")
    return {name: row[name] for name in names}


def _has_ended(process: int) -> bool:
    try:
        return psutil.Process(process).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _session(leader: int) -> list[psutil.Process]:
    """Return the processes of a session that still run, but for what only cleans up behind others."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getsid(process.pid) == leader and process.pid != leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def run_soak(config: SoakConfig) -> Tally:
    """Run the campaigns of a configuration."""
    with tempfile.TemporaryDirectory(prefix="nst-ops-soak-") as folder:
        return Soak(config, Path(folder)).run()


def table(tally: Tally) -> Table:
    """Return the kills by moment and victim, for each collection."""
    result = Table("collection", "moment", *VICTIMS, title=f"{tally.num_kills:,} kills")
    for name in dict.fromkeys(name for name, *_ in tally.kills):
        for moment in (*MOMENTS, _ANY):
            counts = [tally.kills[name, moment, victim] for victim in VICTIMS]
            if any(counts):
                result.add_row(name, moment, *(f"{count:,}" for count in counts))
    return result


def main() -> int:
    """Run, print the table; exit code 3 if something was wrong."""
    tally = run_soak(parse_config(SoakConfig))
    console = Console()
    console.print(table(tally))
    console.print(", ".join(f"{count:,} {what}" for what, count in tally.counts.items()))
    console.print(f"{len(tally.problems):,} problems")
    for problem in tally.problems:
        console.print(problem, soft_wrap=True, markup=False)
    return 3 if tally.problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
