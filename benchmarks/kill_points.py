"""Points of a run at which a process dies by SIGKILL, and the job with them, for ``soak.py``.

They are brought into the worker processes by a kind of model, ``soak``, which changes nothing: to load it a worker
imports this module. The plan of the kills stands in the environment variable ``NST_OPS_KILLS``; a kill leaves an empty
file named by its number in the plan's folder, so that it happens once, whichever process comes first.

    python -m benchmarks.kill_points

starts jobs that it is told on its standard input, each in a fork of a process that has imported everything.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, cast

import psutil

PLAN = "NST_OPS_KILLS"
VICTIMS = "worker", "driver", "both"
PLACES = "before", "within", "after"

MOMENTS = {
    # moment: functions that are it, by module
    "plan": ("pipeline.run:_plan", "pipeline.run:_begin"),
    "read": (
        *("pipeline.images:decode_image", "pipeline.video:open_video", "pipeline.video_segments:open_video"),
        *("pipeline.shards:open_shard", "pipeline.shards:decode_tasks", "pipeline.worker:find_segments"),
    ),
    "encode": (
        *("pipeline.images:encode_image", "media.video.writer:VideoWriter.write"),
        *("media.video.writer:VideoWriter.__exit__", "pipeline.shards:_write_sample"),
    ),
    "commit": (
        *("storage.local:LocalTree.place", "storage.s3:S3Tree.upload", "collection.manifest:Manifest.commit"),
        *("collection.segments:Segments.commit", "collection.segments:Segments.remove"),
    ),
    "compaction": (
        *("pipeline.run:compact", "collection.manifest:_write_compacted", "storage.folder:Folder.remove_many"),
        *("storage.folder:Folder.rename", "pipeline.run:finish_compaction"),
    ),
    "join": ("pipeline.video_segments:join_segments", "pipeline.video_segments:_join"),
    "report": ("pipeline.run:_report",),
}
"""Moments of a run; S3's are only there where S3 is used."""
_installed = False


@dataclass(frozen=True)
class Kill:
    """One kill: who dies, and when."""

    moment: str
    victim: str
    number: int = 1
    """Counts the times that a process comes to the moment."""
    place: str = "before"
    delay_s: float = 0.0
    """Seconds from the beginning of the moment, with place within."""


@dataclass(frozen=True)
class Plan:
    """Kills of a job, one after the other; empty files in ``folder`` say which have happened."""

    folder: str
    kills: tuple[Kill, ...]
    compact_parts: int = 4
    """Parts of the manifest that are worth a compaction."""

    def variables(self) -> dict[str, str]:
        """Return the environment variable that carries the plan."""
        return {PLAN: json.dumps(asdict(self))}

    @staticmethod
    def read() -> Plan:
        """Read the plan of this process."""
        record = json.loads(os.environ[PLAN])
        return Plan(**record | {"kills": tuple(Kill(**kill) for kill in record["kills"])})

    def done(self) -> list[int]:
        """Return the numbers of the kills that have happened."""
        return sorted(int(name) for name in os.listdir(self.folder) if name.isdigit())


class Killer:
    """Kills as planned when this process comes to a moment."""

    def __init__(self, plan: Plan, in_driver: bool) -> None:
        self._plan, self._in_driver = plan, in_driver
        self._counts: Counter[int] = Counter()
        self._lock = threading.Lock()

    def __call__(self, moment: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Let a function be a moment."""

        @functools.wraps(function)
        def with_kill(*args: Any, **options: Any) -> Any:
            due = self._due(moment)
            if due is None:
                return function(*args, **options)
            number, kill = due
            strike = functools.partial(self._strike, number, kill)
            if kill.place == "before":
                strike()
            if kill.place == "within":
                threading.Timer(kill.delay_s, strike).start()
            result = function(*args, **options)
            if kill.place == "after":
                strike()
            return result

        return with_kill

    def _due(self, moment: str) -> tuple[int, Kill] | None:
        """Count the moment; return the kill that is due, if it is."""
        with self._lock:
            number = len(self._plan.done())
            if number >= len(self._plan.kills) or self._plan.kills[number].moment != moment:
                return None
            self._counts[number] += 1
            kill = self._plan.kills[number]
            return (number, kill) if self._counts[number] == kill.number else None

    def _strike(self, number: int, kill: Kill) -> None:
        try:
            os.close(os.open(f"{self._plan.folder}/{number}", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        if self._in_driver:
            if kill.victim != "driver":
                kill_workers(os.getpid())
            if kill.victim != "worker":
                os.kill(os.getpid(), signal.SIGKILL)
            return
        if kill.victim != "worker":
            os.kill(os.getppid(), signal.SIGKILL)
        if kill.victim != "driver":
            os.kill(os.getpid(), signal.SIGKILL)


def kill_workers(driver: int) -> None:
    """SIGKILL the worker processes of a driver."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(driver).children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if not any("resource_tracker" in word for word in child.cmdline()):
                    child.kill()


def install(in_driver: bool) -> None:
    """Let the moments of the plan happen in this process."""
    global _installed
    _installed = True
    plan = Plan.read()
    killer = Killer(plan, in_driver)
    uses_s3 = "AWS_ENDPOINT_URL" in os.environ
    for moment, functions in MOMENTS.items():
        for name in functions:
            module_name, _, path = name.partition(":")
            if ("s3" in module_name and not uses_s3) or (module_name == "pipeline.run" and not in_driver):
                continue  # they take a second to load
            *owners, attribute = path.split(".")
            owner = functools.reduce(getattr, owners, importlib.import_module(f"nst_ops.{module_name}"))
            setattr(owner, attribute, killer(moment, getattr(owner, attribute)))
    if uses_s3:
        from botocore.retries import standard

        standard.ExponentialBackoff._BASE = 1.2  # short pauses between two tries


def load(model: object, alpha: float) -> Callable[..., Any]:
    """Make a stylizer that changes nothing; a worker process comes here before its first unit."""
    if not _installed:
        modules: dict[str, Any] = sys.modules
        modules["pandas"] = None  # pyarrow would take a second to load it, and does without
        install(in_driver=False)
    return lambda frames_nhwc, styles=(): frames_nhwc


def _run_job(arguments: list[str]) -> int:
    """Run a job in this process, with its kills."""
    from benchmarks import kill_points  # under a name that workers can import
    from nst_ops.cli import run
    from nst_ops.collection import run_lock
    from nst_ops.pipeline import run as pipeline
    from nst_ops.stylizers.registry import ModelKind, register

    kill_points.install(in_driver=True)
    parts, settings = Plan.read().compact_parts, cast(Any, pipeline)
    settings._COMPACT_PARTS = parts
    settings.compact = functools.partial(settings.compact, at_least=parts)
    settings.run_lock = functools.partial(
        run_lock.run_lock, every_s=0.4
    )  # on S3 a killed driver is watched for 3 beats
    register(ModelKind("soak", kill_points.load, uses_device=False, smooths=False, warms_up=False))
    return run("stylize", arguments)


def _serve() -> None:
    """Start the jobs that lines of JSON name; answer with the process of each, and later with its exit code."""
    import pandas  # noqa: F401, what every driver would take seconds to import

    import nst_ops.cli.jobs
    import nst_ops.pipeline.executors.local
    import nst_ops.pipeline.run
    import nst_ops.report.run_report  # noqa: F401

    for line in sys.stdin:
        job: dict[str, Any] = json.loads(line)
        child = os.fork()
        if not child:
            os.setsid()
            log = os.open(job["log"], os.O_CREAT | os.O_WRONLY | os.O_APPEND)
            for descriptor, target in ((os.open(os.devnull, os.O_RDONLY), 0), (log, 1), (log, 2)):
                os.dup2(descriptor, target)
            os.environ.update(job["variables"])
            raise SystemExit(_run_job(job["arguments"]))
        print(json.dumps({"process": child}), flush=True)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(json.dumps({"code": code}), flush=True)


if __name__ == "__main__":
    _serve()
