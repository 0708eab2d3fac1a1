"""Compare the smoothing modes of a stylizer on clips: figures, a plot, strips. --help lists the keys."""

import logging
import sys

from nst_ops.config import ConfigError, parse_config
from nst_ops.config.temporal_benchmark import TemporalBenchmarkConfig


def main() -> int:
    """Measure; the exit code is 0 done, 2 bad configuration."""
    config = parse_config(TemporalBenchmarkConfig)
    logging.basicConfig(format="%(message)s")
    from rich.console import Console

    from nst_ops.evaluation.temporal.benchmark import compare_modes  # torch: not for --help

    console = Console(width=None if sys.stdout.isatty() else 120, markup=False, highlight=False)
    try:
        with Console(stderr=True).status("reading") as status:
            comparison = compare_modes(config, status.update)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    console.print(comparison.table())
    for video, reason in comparison.skipped.items():
        console.print(f"left out: {video}: {reason}")
    print(f"plot, strips and figures: {config.output}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
