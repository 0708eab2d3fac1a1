"""Train recipes of ViT-AdaIN one after the other and compare them. See configs/ablation.yaml."""

import logging
import sys

from nst_ops.config import ConfigError, parse_config
from nst_ops.config.ablation import AblationConfig


def main() -> int:
    """Train and judge; the exit code is 0 done, 1 fatal, 2 bad configuration."""
    config = parse_config(AblationConfig)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("nst_ops").setLevel(logging.INFO)  # of others, such as S3 clients, only warnings
    from nst_ops.training import TrainingError  # Ray and torch: not for --help
    from nst_ops.training.ablation import ablate

    try:
        table = ablate(config)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except TrainingError as error:
        print(f"fatal: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped: run the same command again to go on", file=sys.stderr)
        return 1
    print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
