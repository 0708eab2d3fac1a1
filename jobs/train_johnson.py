"""Train a network to paint in the manner of one picture. See configs/train_johnson.yaml."""

import logging

from nst_ops.config import TrainJohnsonConfig, parse_config


def main() -> int:
    """Train, or sweep; the exit code is 0 done, 1 fatal, 2 bad configuration."""
    config = parse_config(TrainJohnsonConfig)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("nst_ops").setLevel(logging.INFO)  # of others, such as S3 clients, only warnings
    from nst_ops.training import describe_outcome, report, train_network  # Ray, torch: not for --help

    if not config.sweep:
        return report(lambda: describe_outcome(config.output, train_network(config)))
    from nst_ops.training.sweep import sweep  # so is Tune

    results = []

    def table() -> str:
        results.append(sweep(config))
        return results[0].table()

    return report(table) or results[0].exit_code


if __name__ == "__main__":
    raise SystemExit(main())
