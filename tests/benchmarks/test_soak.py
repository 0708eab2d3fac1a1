"""Kills at every moment of a run, and broken files: a few of the many that the scripts are for."""

import os
import shutil
import sys

import pytest
from s3_server import VENV

from benchmarks.fuzz import FuzzConfig, run_fuzz
from benchmarks.soak import SoakConfig, run_soak

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="forks, and looks into /proc")]
CAN_MOUNT = hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("mount")


@pytest.mark.parametrize(
    "name",
    [
        *("images", "packed", "shards", "videos"),
        pytest.param("full_disk", marks=pytest.mark.skipif(not CAN_MOUNT, reason="mounts a small file system")),
        pytest.param("s3", marks=pytest.mark.skipif(not VENV.exists(), reason="no S3 server is installed")),
    ],
)
def test_nothing_is_lost_or_twice_after_kills(name: str) -> None:
    tally = run_soak(SoakConfig(kills=8, seed=1, collections=[name]))
    assert tally.problems == []
    assert tally.num_kills >= 8


def test_each_broken_file_gets_a_row_and_the_job_its_end() -> None:
    figures = run_fuzz(FuzzConfig(files=120, files_per_job=120, bombs=False, seed=1))
    assert figures.problems == []
    assert figures.crashed == []
    assert max(figures.peak_gib.values()) < 2
