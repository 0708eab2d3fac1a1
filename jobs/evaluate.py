"""Judge the output of jobs/stylize_dataset.py and write a page about it. --help lists the keys."""

import logging
import sys

from nst_ops.config import ConfigError, EvaluateConfig, parse_config


def main() -> int:
    """Evaluate; the exit code is 0 all judged, 3 some files unreadable, 2 bad configuration, 1 fatal."""
    config = parse_config(EvaluateConfig)
    logging.basicConfig(format="%(message)s")
    from rich.console import Console

    from nst_ops.evaluation.run import evaluate_run  # torch: not for --help
    from nst_ops.evaluation.videos import evaluate_videos
    from nst_ops.storage import StorageFullError

    try:
        outcome = evaluate_videos(config) if config.temporal else evaluate_run(config)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except StorageFullError as error:
        print(f"fatal: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped: nothing was written", file=sys.stderr)
        return 1
    console = Console(width=None if sys.stdout.isatty() else 120, markup=False, highlight=False)
    for table in outcome.report.tables():
        console.print(table)
    print(f"page: {outcome.page}")
    return outcome.exit_code


if __name__ == "__main__":
    raise SystemExit(main())
