"""Training: photographs and a painting in, a checkpoint out."""

from nst_ops.training.johnson import TrainingError, train_johnson
from nst_ops.training.outcome import describe_outcome

__all__ = ["TrainingError", "describe_outcome", "train_johnson"]
