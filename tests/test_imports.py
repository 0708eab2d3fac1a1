"""A room imports only what stands below it; the contracts are in pyproject.toml."""

import subprocess
import sys
from pathlib import Path


def test_rooms_keep_to_their_floor():
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint], cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout
