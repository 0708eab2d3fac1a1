"""Train recipes of ViT-AdaIN one after the other and compare them. See configs/ablation.yaml."""

import logging

from nst_ops.config import parse_config
from nst_ops.config.ablation import AblationConfig


def main() -> int:
    """Train and judge; the exit code is 0 done, 1 fatal, 2 bad configuration."""
    config = parse_config(AblationConfig)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("nst_ops").setLevel(logging.INFO)  # of others, such as S3 clients, only warnings
    from nst_ops.training import report  # torch: not for --help
    from nst_ops.training.ablation import ablate

    return report(lambda: ablate(config))


if __name__ == "__main__":
    raise SystemExit(main())
