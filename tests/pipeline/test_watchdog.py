"""A unit without progress ends its process, and says so; one that goes on may take any time."""

import subprocess
import sys
from pathlib import Path

import pytest
from job_runner import write_image
from planning import spec_of, units_of

from nst_ops.config import StylizeConfig
from nst_ops.pipeline.watchdog import has_struck, limit_of
from nst_ops.pipeline.worker import Worker

WORK = """
import sys, time
from pathlib import Path
from nst_ops.pipeline.telemetry import Telemetry
from nst_ops.pipeline.watchdog import Watchdog

watchdog, progress = Watchdog(Path(sys.argv[1])), sys.argv[2]
telemetry = Telemetry(watchdog.hear, every_s=0.1)
with watchdog.watch(1.0):
    for _ in range(25):
        time.sleep(0.1)
        if progress == "row":
            telemetry.add(1, 0)
        elif progress == "frame":
            telemetry.add(0, 1)
        elif progress == "sample":
            telemetry.touch()
        elif progress == "network":
            with telemetry.stylizing():
                time.sleep(0.1)
time.sleep(1.5)  # it is not watched any more
print("done")
"""


@pytest.mark.parametrize("progress", ["row", "frame", "sample", "network", "none"])
def test_only_a_unit_without_progress_ends_its_process(tmp_path: Path, progress: str) -> None:
    stacks = tmp_path / "stacks"
    command = [sys.executable, "-c", WORK, str(stacks), progress]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert has_struck(stacks) == (progress == "none"), ended.stderr
    assert (ended.returncode, ended.stdout) == ((1, "") if progress == "none" else (0, "done\n"))
    if progress == "none":
        assert 'File "<string>"' in stacks.read_text()  # where it was


def test_a_large_file_and_a_remote_one_have_more_time(tmp_path: Path) -> None:
    write_image(tmp_path / "in/a.png")
    given = {"model": {"kind": "identity"}, "workers": {"item_timeout_s": 30}}
    config = StylizeConfig(input=str(tmp_path / "in"), output=str(tmp_path / "out"), **given)
    worker = Worker(spec_of(config))
    (unit,) = units_of(worker)
    assert limit_of(unit, worker) == pytest.approx(30, abs=0.1)
    unit.items[0]["source_bytes"] = 50_000_000_000  # a long video is copied, hashed and joined for as long as it takes
    assert limit_of(unit, worker) == 50_030
    unit.items[0]["source_bytes"] = None
    assert limit_of(unit, worker) == pytest.approx(30, abs=0.1)
    worker.output.is_local = False
    assert limit_of(unit, worker) > 30 + config.storage.attempts * config.storage.timeout_s
