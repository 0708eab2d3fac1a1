"""Losses: what it means to keep the content, to carry the style, to be smooth and to hold still."""

from nst_ops.losses.adversarial import Adversary
from nst_ops.losses.colour import brighten, colour_loss, luma
from nst_ops.losses.content import content_loss
from nst_ops.losses.perceptual import LossTerms, PerceptualLoss, Views
from nst_ops.losses.structure import cel_target, feature_l1
from nst_ops.losses.style import channel_statistics, gram_loss, gram_matrix, mean_std_loss
from nst_ops.losses.temporal import (
    add_noise,
    affine_motion,
    inside_mask,
    motion_equivariance,
    noise_stability,
    random_motion,
    warp,
)
from nst_ops.losses.variation import total_variation

__all__ = [
    "Adversary",
    "LossTerms",
    "PerceptualLoss",
    "Views",
    "add_noise",
    "affine_motion",
    "brighten",
    "cel_target",
    "channel_statistics",
    "colour_loss",
    "content_loss",
    "feature_l1",
    "gram_loss",
    "gram_matrix",
    "inside_mask",
    "luma",
    "mean_std_loss",
    "motion_equivariance",
    "noise_stability",
    "random_motion",
    "total_variation",
    "warp",
]
