"""Measure what training costs on this machine: Ray Train against the bare loop, two workers against one."""

import logging
from typing import ClassVar

from pydantic import Field, PositiveInt

from nst_ops.config import JobConfig, parse_config

_EPILOG = """\
examples:
  python jobs/benchmark_training.py                                     (two CPU cores: 6 minutes)
  python jobs/benchmark_training.py --batch_size 32 --steps 200         (a GPU or two)
"""


class BenchmarkTrainingConfig(JobConfig):
    """Measure photographs per second of training, as ratios in one run."""

    epilog: ClassVar[str] = _EPILOG

    image_size: int = Field(default=256, ge=32, multiple_of=4)
    """Side of the crops in pixels."""
    batch_size: PositiveInt = 2
    """Photographs per step and worker."""
    steps: int = Field(default=14, ge=5)
    """Steps of each measurement."""
    threads: PositiveInt = 1
    """CPU threads of each worker, where there is no GPU."""
    rounds: PositiveInt = 2
    """Times that every case is measured; the fastest counts."""
    output: str = ""
    """JSON file to write the figures to; none by default."""


def main() -> int:
    """Measure, print, and write the figures."""
    config = parse_config(BenchmarkTrainingConfig)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("nst_ops").setLevel(logging.INFO)  # of others, such as S3 clients, only warnings
    from nst_ops.report.benchmark_table import show_figures
    from nst_ops.training.benchmark import benchmark_training  # Ray and torch: not for --help

    settings = config.model_dump(exclude={"output"})
    show_figures(benchmark_training(**settings), config.output)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
