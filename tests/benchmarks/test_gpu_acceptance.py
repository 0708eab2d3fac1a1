"""The acceptance on a GPU: a check that fails, dies or hangs costs none of the others; it runs on a CPU, too."""

import json
import os
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu_acceptance import AcceptanceConfig, run_checks

ROOT = Path(__file__).parents[2]


def serve(config: AcceptanceConfig, left: list[dict[str, Any]] | None, sender: Connection) -> None:
    """Checks that do what they are called."""
    if left is None:
        names = ("good", "dies", "hangs", "loses the device", "last")
        left = [{"name": name, "limit_s": 0.5 if name == "hangs" else 60} for name in names]
        sender.send(left)
    for one in left:
        sender.send("begin")
        if one["name"] == "dies":
            os._exit(7)
        if one["name"] == "hangs":
            time.sleep(60)
        sender.send({"outcome": "ok", "seconds": 0.1, "goals": [], "figures": {"pid": os.getpid()}})
        if one["name"] == "loses the device":
            os._exit(1)


def test_a_check_that_dies_or_hangs_costs_no_other() -> None:
    results = dict(run_checks(AcceptanceConfig(), serve))
    outcomes = {name: result["outcome"] for name, result in results.items()}
    assert outcomes == {
        "good": "ok",
        "dies": "died with exit code 7",
        "hangs": "hung",
        "loses the device": "ok",
        "last": "ok",
    }
    assert results["last"]["figures"]["pid"] != results["loses the device"]["figures"]["pid"]


@pytest.mark.slow
def test_no_check_begins_after_the_last_minute() -> None:
    results = dict(run_checks(AcceptanceConfig(minutes=0.5), serve_slowly))
    assert [result["outcome"] for result in results.values()] == ["ok", "no time left", "no time left"]


def serve_slowly(config: AcceptanceConfig, left: list[dict[str, Any]] | None, sender: Connection) -> None:
    """One check that is done, and one that hangs."""
    sender.send([{"name": str(number), "limit_s": 60} for number in range(3)])
    sender.send("begin")
    sender.send({"outcome": "ok", "seconds": 0.1, "goals": []})
    sender.send("begin")
    time.sleep(60)


@pytest.mark.slow
def test_all_checks_run_small_on_a_cpu(tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/gpu_acceptance.py", "--device", "cpu", "--output", str(tmp_path / "a.json")]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    checks = json.loads((tmp_path / "a.json").read_text())["checks"]
    assert len(checks) > 15
    assert {name: check["outcome"] for name, check in checks.items()} == dict.fromkeys(checks, "ok"), output


def test_the_checks_need_no_package_of_clusters_or_tables() -> None:
    code = (
        "import sys\n"
        "for name in ('ray', 'duckdb', 's3fs', 'matplotlib', 'loky', 'pillow_heif'): sys.modules[name] = None\n"
        "from benchmarks.gpu import correctness, machine, timings\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
