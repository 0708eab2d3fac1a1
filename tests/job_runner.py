"""The real job on real files, for the tests of a run."""

from __future__ import annotations

import hashlib
import os
import secrets
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset
from PIL import Image

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {
    **os.environ,
    # Workers of a cluster import the models of the tests.
    "PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])]),
    "RAY_worker_niceness": "0",  # a loaded machine would starve niced workers
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(16),  # jobs may join the Ray of the tests, and nobody else
}


def job_command(source: Path | str, output: Path | str, *arguments: str, ray_address: str = "") -> list[str]:
    """The job as a person runs it, on this machine or on the Ray at ``ray_address``."""
    executor = ("ray", "--ray_address", ray_address) if ray_address else ("local",)
    command = [sys.executable, str(ROOT / "jobs/stylize_dataset.py"), "--executor", *executor]
    return [*command, "--input", str(source), "--output", str(output), *arguments]


def run_job(source: Path, output: Path, *arguments: str, ray_address: str = "") -> subprocess.CompletedProcess[str]:
    """Run the job to its end."""
    command = job_command(source, output, *arguments, ray_address=ray_address)
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, env=ENVIRONMENT)


def read_manifest(output: Path) -> list[dict[str, object]]:
    """All rows, as any Parquet reader sees them."""
    folder = output / "manifest"
    if not folder.is_dir() or not any(folder.glob("*.parquet")):
        return []
    table: pa.Table = pyarrow.dataset.dataset(folder).to_table()
    return table.to_pylist()


def check_invariants(output: Path) -> dict[str, dict[str, object]]:
    """Each source in each style at most once, and every ok row's output complete.

    Rows by file name, or by ``style/name`` where a source has several.
    """
    rows = read_manifest(output)
    keys = [(row["source_uri"], row["style"]) for row in rows]
    assert len(keys) == len(set(keys))
    outputs = [row["output_uri"] for row in rows if row["status"] == "ok"]
    assert len(outputs) == len(set(outputs))
    several = len({source for source, _ in keys}) < len(keys)
    for row in rows:
        if row["status"] == "ok":
            data = Path(str(row["output_uri"])).read_bytes()
            assert len(data) == row["output_bytes"]
            assert hashlib.sha256(data).hexdigest() == row["output_sha256"]
        else:
            assert row["error_type"]
            assert row["error_message"]
    return {(f"{row['style']}/" if several else "") + Path(str(row["source_uri"])).name: row for row in rows}


def visible_files(folder: Path) -> list[Path]:
    """Files that a user sees: no part of their path starts with a dot."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in files if not any(p.startswith(".") for p in path.relative_to(folder).parts))


def write_image(path: Path, width: int = 48, height: int = 32, seed: int = 0) -> None:
    """Noise, which no codec makes small."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(path)
