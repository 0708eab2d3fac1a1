"""Typed, strict configurations: every key of every job, with its meaning."""

from nst_ops.config.base import JobConfig
from nst_ops.config.cli import parse_config
from nst_ops.config.errors import ConfigError, FatalError
from nst_ops.config.evaluate import EvaluateConfig
from nst_ops.config.inspection import StatusConfig, VerifyConfig
from nst_ops.config.losses import LossConfig
from nst_ops.config.stylize import ModelConfig, StylizeConfig, TemporalConfig, VideoConfig
from nst_ops.config.training import (
    FitStyleConfig,
    PerceptualTrainingConfig,
    TrainingConfig,
    TrainJohnsonConfig,
    TrainMultiStyleConfig,
    TrainVitAdainConfig,
)

__all__ = [
    "ConfigError",
    "EvaluateConfig",
    "FatalError",
    "FitStyleConfig",
    "JobConfig",
    "LossConfig",
    "ModelConfig",
    "PerceptualTrainingConfig",
    "StatusConfig",
]
__all__ += [
    "StylizeConfig",
    "TemporalConfig",
    "TrainJohnsonConfig",
    "TrainMultiStyleConfig",
    "TrainVitAdainConfig",
    "TrainingConfig",
]
__all__ += ["VerifyConfig", "VideoConfig", "parse_config"]
