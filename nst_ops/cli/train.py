"""The commands ``nst-ops train-johnson`` and ``nst-ops train-vit-adain``."""

from __future__ import annotations

from nst_ops.config import TrainingConfig, TrainJohnsonConfig
from nst_ops.training import describe_outcome, train_network


def main(config: TrainingConfig) -> int:
    """Train a network, or with ``--sweep`` try several weights of its loss."""
    if isinstance(config, TrainJohnsonConfig) and config.sweep:
        from nst_ops.training.sweep import sweep  # needs Ray Tune

        result = sweep(config)
        print(result.table())
        return result.exit_code
    print(describe_outcome(config.output, train_network(config)))
    return 0
