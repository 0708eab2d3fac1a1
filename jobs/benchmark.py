"""Measure what the pipeline costs on this machine: how well its stages overlap, and its peak memory."""

import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

from pydantic import Field
from rich.table import Table

from nst_ops.config import JobConfig, ModelConfig, parse_config
from nst_ops.pipeline.benchmark import benchmark
from nst_ops.pipeline.summary import render


class BenchmarkConfig(JobConfig):
    """Measure overlap and memory of a worker, as ratios in one run."""

    model: ModelConfig = ModelConfig()
    num_frames: int = Field(default=60, ge=8)
    """Frames of the short film; the long one has ten times as many."""
    width: int = Field(default=320, ge=16)
    """Width of the films in pixels."""
    height: int = Field(default=240, ge=16)
    """Height of the films in pixels."""
    output: str = ""
    """JSON file to write the figures to; none by default."""


def main() -> int:
    """Measure, print, and write the figures."""
    config = parse_config(
        BenchmarkConfig, epilog="example:\n  python jobs/benchmark.py --model.kind identity\n"
    )
    figures: dict[str, Any] = benchmark(
        config.model.model_dump(), config.num_frames, (config.width, config.height)
    )
    tables = []
    for section, values in figures.items():
        table = Table(title=section, show_header=False, title_justify="left")
        for name, value in values.items():
            table.add_row(name, f"{value:,.2f}")
        tables.append(table)
    print(render(*tables))
    if config.output:
        machine = {
            "machine": platform.machine(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
        }
        record = {"command": " ".join(["python", *sys.argv]), **machine, **figures}
        Path(config.output).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
