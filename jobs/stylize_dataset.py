"""Stylize a collection of images and videos. See configs/ for ready-made runs, --help for the keys."""

import logging
import signal
import sys

from nst_ops.config import ConfigError, StylizeConfig, parse_config


def main() -> int:
    """Run the job; the exit code is 0 all ok, 1 fatal, 2 bad configuration, 3 some items failed."""
    config = parse_config(StylizeConfig)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("nst_ops").setLevel(logging.INFO)  # of others, such as S3 clients, only warnings
    from nst_ops.pipeline import FatalError, stylize_collection  # Ray and torch: not for --help
    from nst_ops.pipeline.executors.ray_upload import check_upload

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # of `ray job stop` or SLURM: as Ctrl-C
    try:
        check_upload()
        summary = stylize_collection(config)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except FatalError as error:
        print(f"fatal: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped: run the same command again to go on", file=sys.stderr)
        return 1
    print(summary.table())
    return summary.exit_code


if __name__ == "__main__":
    raise SystemExit(main())
