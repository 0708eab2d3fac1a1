"""Training: content images and a style in, a checkpoint out."""

from nst_ops.training.model_card import describe_outcome
from nst_ops.training.run import train_network
from nst_ops.training.worker import TrainingError

__all__ = ["TrainingError", "describe_outcome", "train_network"]
