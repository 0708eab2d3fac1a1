"""Typed, strict configurations: every key of every job, with its meaning."""

from nst_ops.config.base import ConfigError, JobConfig
from nst_ops.config.cli import parse_config
from nst_ops.config.stylize import ModelConfig, StylizeConfig
from nst_ops.config.train_johnson import LossConfig, TrainJohnsonConfig

__all__ = [
    "ConfigError",
    "JobConfig",
    "LossConfig",
    "ModelConfig",
    "StylizeConfig",
    "TrainJohnsonConfig",
    "parse_config",
]
