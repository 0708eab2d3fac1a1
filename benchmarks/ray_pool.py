"""Measure how long the workers of a simulated Ray pool wait for work, on logical GPUs with sleeping units.

    python benchmarks/ray_pool.py --num_workers 100 --unit_s 2 --units_each 8

Every worker is a real process that takes real units from the exchange and commits real rows; only the network
is simulated, so that a hundred of them fit into one machine. Their start is not counted: with that many
processes on few cores it takes minutes, and on a cluster seconds.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pyarrow.dataset
from PIL import Image
from pydantic import Field, PositiveFloat, PositiveInt

from nst_ops.config import JobConfig, ModelConfig, StylizeConfig, parse_config
from nst_ops.media.images import UInt8Array
from nst_ops.media.style_images import Style
from nst_ops.stylizers.registry import ModelKind, Stylizer, register


class RayPoolConfig(JobConfig):
    """Measure the idle share of a simulated pool of workers on Ray."""

    epilog: ClassVar[str] = "example:\n  python benchmarks/ray_pool.py --num_workers 100 --output pool.json\n"

    num_workers: PositiveInt = 100
    """Workers, each with one logical GPU; each is a process of some 100 MB."""
    unit_s: PositiveFloat = 2.0
    """Seconds that a unit takes."""
    units_each: int = Field(default=8, ge=2)
    """Units for each worker."""
    output: str = ""
    """JSON file to write the figures to; none by default."""


def measure(config: RayPoolConfig) -> dict[str, float]:
    """Run the pool; return its size, the units, and the share of the workers' time in which they had none."""
    import ray

    from nst_ops.pipeline.run import stylize_collection

    num_units = config.num_workers * config.units_each
    with tempfile.TemporaryDirectory(prefix="nst-ops-") as scratch:
        source, output = Path(scratch, "in"), Path(scratch, "out")
        source.mkdir()
        pixels = np.zeros((16, 16, 3), np.uint8)
        for number in range(num_units):
            Image.fromarray(pixels).save(source / f"{number:06d}.png")
        ray.init(
            num_cpus=4, num_gpus=config.num_workers, include_dashboard=False, log_to_driver=False, logging_level=40
        )
        register(ModelKind("sleep", _sleeper(config.unit_s), uses_device=True, smooths=False, warms_up=False))
        sections = {
            "model": {"kind": "sleep"},
            "units": {"images": 1},
            "workers": {"count": config.num_workers, "gpus": 1, "cpus": 0.01, "threads": 1},
            "report": {"pairs": 0},
        }
        given = {"input": str(source), "output": str(output), "executor": "ray", **sections}
        stylize_collection(StylizeConfig.model_validate(given))
        columns = ["worker", "finished_at", "decode_s", "stylize_s", "encode_s"]
        rows = pyarrow.dataset.dataset(output / "manifest").to_table(columns).to_pandas()
        ray.shutdown()
    return {"workers": config.num_workers, "units": num_units, "unit_s": config.unit_s, **_idle(rows, config.unit_s)}


def _idle(rows: pd.DataFrame, unit_s: float) -> dict[str, float]:
    """Compare, for each worker, the time from its first row to its last with the units done in it."""
    rows["end_s"] = rows["finished_at"].astype("int64") / 1e3
    spans = rows.groupby("worker")["end_s"].agg(["min", "max", "count"])
    spans = spans[spans["count"] > 1]
    present_s = float((spans["max"] - spans["min"]).sum())
    worked_s = float((spans["count"] - 1).sum()) * unit_s
    return {"workers_seen": len(spans), "present_s": present_s, "idle_share": 1 - worked_s / present_s}


def _sleeper(unit_s: float) -> Callable[[ModelConfig, float], Stylizer]:
    def load(model: ModelConfig, alpha: float) -> Stylizer:
        def sleep(frames_nhwc: UInt8Array, styles: Sequence[Style] = ()) -> UInt8Array:
            time.sleep(unit_s)
            return frames_nhwc

        return sleep

    return load


def main() -> int:
    """Measure, print, and write the figures."""
    config = parse_config(RayPoolConfig)
    from benchmarks.figures_table import show_figures

    show_figures({"pool": measure(config)}, config.output)
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    raise SystemExit(main())
