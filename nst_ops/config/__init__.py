"""Typed, strict configurations: every key of every job, with its meaning."""

from nst_ops.config.base import JobConfig
from nst_ops.config.cli import parse_config
from nst_ops.config.errors import ConfigError, FatalError
from nst_ops.config.evaluate import EvaluateConfig
from nst_ops.config.losses import LossConfig
from nst_ops.config.stylize import ModelConfig, StylizeConfig, TemporalConfig, VideoConfig
from nst_ops.config.training import TrainingConfig, TrainJohnsonConfig, TrainVitAdainConfig

__all__ = [
    "ConfigError",
    "EvaluateConfig",
    "FatalError",
    "JobConfig",
    "LossConfig",
    "ModelConfig",
    "StylizeConfig",
    "TemporalConfig",
    "TrainJohnsonConfig",
    "TrainVitAdainConfig",
    "TrainingConfig",
    "VideoConfig",
    "parse_config",
]
