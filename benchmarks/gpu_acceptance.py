"""Check on a GPU that everything which runs there is right, and measure how fast it is, in at most ten minutes.

It needs no Ray. Every check runs for itself: one that fails, dies or hangs costs none of the others. Run it from the
root of the repository: ``python benchmarks/gpu_acceptance.py --help``.
"""

from __future__ import annotations

import json
import multiprocessing
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ClassVar, Literal

sys.path.insert(0, str(Path(__file__).parents[1]))  # as a script, on a machine where nothing is installed

from pydantic import Field

from nst_ops.config import JobConfig, parse_config

Todo = dict[str, Any]
"""A check that is to be run: ``name``, and ``limit_s``, the seconds after which it counts as hung."""
Result = dict[str, Any]
"""What a check found: ``outcome``, ``seconds``, ``goals`` and ``figures``; ``traceback`` after an error."""
Serve = Callable[["AcceptanceConfig", list[Todo] | None, Connection], None]
"""Runs checks, all where it is given none: sends what there is to do, and ``begin`` and the result of each."""

_START_S = 60.0  # seconds that a process has to import torch and begin
_LIMIT_ON_CPU = 4  # times as long: cores may have other things to do
_EXAMPLES = """\
examples:
  python benchmarks/gpu_acceptance.py --output results.json          (a GPU: 4 minutes)
  python benchmarks/gpu_acceptance.py --device cpu                   (a trial without one, in small sizes)
  python benchmarks/gpu_acceptance.py --only sizes,out_of_memory
"""


class AcceptanceConfig(JobConfig):
    """Check what runs on a GPU, and how fast."""

    epilog: ClassVar[str] = _EXAMPLES

    device: Literal["cuda", "cpu"] = "cuda"
    """Device: cuda; or cpu, a trial in small sizes of whatever runs on one."""
    minutes: float = Field(default=10.0, gt=0)
    """Minutes after which no further check begins."""
    only: str = ""
    """Names of checks, separated by commas. Default: all."""
    leave_out: str = ""
    """Names of checks that are left out, separated by commas. Default: none."""
    output: str = ""
    """JSON file to write, anew after every check. Default: none."""


def main() -> int:
    """Check, print a table, and write all figures; 1 where a check failed."""
    config = parse_config(AcceptanceConfig)
    results: dict[str, Result] = {}
    for name, result in run_checks(config):
        results[name] = result
        print(f"{name}: {result['outcome']} after {result['seconds']:.1f} s", flush=True)
        if config.output:
            _write(Path(config.output), config, results)
    print(_table(results), flush=True)
    return int(any(result["outcome"] != "ok" for result in results.values()))


def run_checks(config: AcceptanceConfig, serve: Serve | None = None) -> Iterator[tuple[str, Result]]:
    """Run the checks in a process, and in another one what is left when that dies or hangs; yield their results."""
    context = multiprocessing.get_context("spawn")
    deadline = time.monotonic() + 60 * config.minutes
    left: list[Todo] | None = None
    while left is None or left:
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=serve or serve_checks, args=(config, left, sender))
        process.start()
        sender.close()
        num_before = len(left or [])
        begun = False
        try:
            while left is None or left:
                limit_s = left[0]["limit_s"] if begun and left else _START_S
                if not receiver.poll(max(0.0, min(limit_s, deadline - time.monotonic()))):
                    raise TimeoutError
                match receiver.recv():
                    case list(checks):
                        left = checks
                    case "begin":
                        begun = True
                    case result:
                        begun = False
                        assert left
                        yield left.pop(0)["name"], result
        except (EOFError, TimeoutError) as error:
            process.kill()
            process.join()
            how = "hung" if isinstance(error, TimeoutError) else f"died with exit code {process.exitcode}"
            if not left:
                raise SystemExit(f"error: the process of the checks {how} at its start") from error
            if deadline <= time.monotonic():
                yield from ((check["name"], _lost("no time left")) for check in left)
                return
            if begun or len(left) == num_before:  # else it only ended after a check that has lost the device
                yield left.pop(0)["name"], _lost(how)
    process.join()


def _lost(how: str) -> Result:
    return {"outcome": how, "seconds": 0.0, "goals": []}


def serve_checks(config: AcceptanceConfig, left: list[Todo] | None, sender: Connection) -> None:
    """Run checks in this process, and send their results."""
    import torch

    from benchmarks.gpu import correctness, machine, timings  # noqa: F401 # they fill the table
    from benchmarks.gpu.bench import CHECKS, Bench

    if left is None:
        only, leave_out = (set(filter(None, names.split(","))) for names in (config.only, config.leave_out))
        if unknown := (only | leave_out) - CHECKS.keys():
            print(f"error: no checks {', '.join(sorted(unknown))}; known: {', '.join(CHECKS)}", file=sys.stderr)
            return
        chosen = [check for check in CHECKS.values() if check.name in (only or CHECKS.keys()) - leave_out]
        chosen.sort(key=lambda check: check.name != "machine")
        factor = _LIMIT_ON_CPU if config.device == "cpu" else 1
        left = [{"name": check.name, "limit_s": factor * check.limit_s} for check in chosen]
        sender.send(left)
    for one in left:
        sender.send("begin")
        with tempfile.TemporaryDirectory() as scratch:
            bench = Bench(torch.device(config.device), Path(scratch))
            started = time.perf_counter()
            result: Result = {}
            try:
                result["figures"] = CHECKS[one["name"]].run(bench)
                result["outcome"] = "ok" if all(goal["met"] for goal in bench.goals) else "missed"
            except Exception as error:
                result["outcome"] = (
                    f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"
                )
                result["traceback"] = traceback.format_exc()
            result["seconds"], result["goals"] = time.perf_counter() - started, bench.goals
        sender.send(result)
        bench.free()  # where the device is lost this raises, and the next check gets another process


def _write(path: Path, config: AcceptanceConfig, results: dict[str, Result]) -> None:
    command = " ".join(["python", *sys.argv])
    record = {"command": command, "python": platform.python_version(), "device": config.device, "checks": results}
    path.write_text(json.dumps(record, indent=1, default=str) + "\n", encoding="utf-8")


def _table(results: dict[str, Result]) -> str:
    """Return the goals that were missed, and a line for every check."""
    lines = []
    for name, result in results.items():
        for goal in result["goals"]:
            if not goal["met"]:
                bound = " ".join(f"{key} {goal[key]:g}" for key in ("at_least", "at_most") if key in goal)
                lines.append(f"MISSED {name}: {goal['goal']} is {goal['value']:.4g}, {bound}")
    lines.append(f"{'check':22} {'s':>6}  outcome")
    for name, result in results.items():
        figures = result.get("figures", {})
        shown = [f"{key} {_short(value)}" for key, value in figures.items() if isinstance(value, (int, float, str))]
        lines.append(f"{name:22} {result['seconds']:6.1f}  {result['outcome'][:90]}  {'; '.join(shown)}"[:400])
    return "\n".join(lines)


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    raise SystemExit(main())
