"""Measure what the pipeline costs on this machine: how well its stages overlap, and its peak memory."""

from typing import ClassVar

from pydantic import Field

from nst_ops.config import JobConfig, ModelConfig, parse_config


class BenchmarkConfig(JobConfig):
    """Measure overlap and memory of a worker, as ratios in one run."""

    epilog: ClassVar[str] = "example:\n  python jobs/benchmark.py --model.kind identity\n"

    model: ModelConfig = ModelConfig()
    num_frames: int = Field(default=60, ge=8)
    """Frames of the film whose stages overlap."""
    width: int = Field(default=320, ge=16)
    """Width of the films in pixels."""
    height: int = Field(default=240, ge=16)
    """Height of the films in pixels."""
    minutes: int = Field(default=60, ge=2)
    """Length of the long film whose memory is compared with that of a film of one minute."""
    output: str = ""
    """JSON file to write the figures to; none by default."""


def main() -> int:
    """Measure, print, and write the figures."""
    config = parse_config(BenchmarkConfig)
    from nst_ops.pipeline.benchmark import benchmark  # Ray and torch: not for --help
    from nst_ops.report.benchmark_table import show_figures

    size = (config.width, config.height)
    show_figures(benchmark(config.model.model_dump(), config.num_frames, size, config.minutes), config.output)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
