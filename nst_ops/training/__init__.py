"""Training: photographs and a style in, a checkpoint out."""

from nst_ops.training.outcome import describe_outcome
from nst_ops.training.run import TrainingError, train_network

__all__ = ["TrainingError", "describe_outcome", "train_network"]
