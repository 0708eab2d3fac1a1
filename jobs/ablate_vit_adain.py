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
    from nst_ops.training.ablation import ablate  # torch: not for --help
    from nst_ops.training.step import DivergedError

    try:
        table = ablate(config)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except DivergedError as error:
        print(f"fatal: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped: the recipes so far are in the output", file=sys.stderr)
        return 1
    print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
