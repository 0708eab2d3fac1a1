"""Train a network that paints like any picture it is shown. See configs/train_vit_adain.yaml."""

import logging
import sys

from nst_ops.config import ConfigError, TrainVitAdainConfig, parse_config


def main() -> int:
    """Train; the exit code is 0 done, 1 fatal, 2 bad configuration."""
    config = parse_config(TrainVitAdainConfig)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("nst_ops").setLevel(logging.INFO)  # of others, such as S3 clients, only warnings
    from nst_ops.training import TrainingError, describe_outcome, train_network  # Ray, torch: not for --help

    try:
        facts = train_network(config)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except TrainingError as error:
        print(f"fatal: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped: run the same command again to go on", file=sys.stderr)
        return 1
    print(describe_outcome(config.output, facts))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
