"""Measure what the driver of a collection of a hundred million images needs: planning and the manifest."""

from multiprocessing import get_context
from typing import ClassVar

from pydantic import PositiveInt

from nst_ops.config import JobConfig, parse_config


class ScaleConfig(JobConfig):
    """Plan a simulated collection that is half done, and compact a manifest on the local disk."""

    epilog: ClassVar[str] = "example:\n  python jobs/benchmark_scale.py --num_files 100000000\n"

    num_files: PositiveInt = 1_000_000
    """Files of the simulated collection."""
    num_parts: PositiveInt = 2_000
    """Parts of the manifest, of 100 rows each."""
    output: str = ""
    """JSON file to write the figures to; none by default."""


def main() -> int:
    """Measure, each in a process of its own, print, and write the figures."""
    config = parse_config(ScaleConfig)
    from nst_ops.collection import benchmark
    from nst_ops.report.benchmark_table import show_figures

    with get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        figures = {
            "planning": pool.apply(benchmark.benchmark_planning, (config.num_files,)),
            "listing": pool.apply(benchmark.benchmark_listing, (1_000_000,)),
            "manifest": pool.apply(benchmark.benchmark_compaction, (config.num_parts,)),
        }
    show_figures(figures, config.output)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
