"""Train a network that paints like any picture it is shown. See configs/train_vit_adain.yaml."""

import logging

from nst_ops.config import TrainVitAdainConfig, parse_config


def main() -> int:
    """Train; the exit code is 0 done, 1 fatal, 2 bad configuration."""
    config = parse_config(TrainVitAdainConfig)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("nst_ops").setLevel(logging.INFO)  # of others, such as S3 clients, only warnings
    from nst_ops.training import describe_outcome, report, train_network  # Ray, torch: not for --help

    return report(lambda: describe_outcome(config.output, train_network(config)))


if __name__ == "__main__":
    raise SystemExit(main())
