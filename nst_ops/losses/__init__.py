"""Losses: what it means to keep the content, to carry the style, to be smooth and to hold still."""

from nst_ops.losses.adversarial import AdversarialLoss
from nst_ops.losses.color import brighten, color_loss, luma
from nst_ops.losses.perceptual import LossTerms, PerceptualLoss, Views
from nst_ops.losses.structure import cel_target, feature_l1
from nst_ops.losses.style import (
    channel_statistics,
    content_loss,
    gram_loss,
    gram_matrix,
    mean_std_loss,
    total_variation,
)
from nst_ops.losses.temporal import (
    add_noise,
    affine_motion,
    inside_mask,
    motion_equivariance,
    noise_stability,
    random_motion,
    warp,
)

__all__ = [
    "AdversarialLoss",
    "LossTerms",
    "PerceptualLoss",
    "Views",
    "add_noise",
    "affine_motion",
    "brighten",
    "cel_target",
    "channel_statistics",
    "color_loss",
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
