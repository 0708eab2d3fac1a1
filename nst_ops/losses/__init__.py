"""Losses: keep the content, carry the style, be smooth, hold still; ``perceptual`` has the table of terms."""

from nst_ops.losses.perceptual import FeatureTerm, ImageTerm, LossTerms, PerceptualLoss, Views, register
from nst_ops.losses.style import content_loss, gram_loss, gram_matrix, mean_std_loss, total_variation
from nst_ops.losses.temporal import add_noise, noise_stability
from nst_ops.models.adain import channel_statistics

__all__ = [
    "FeatureTerm",
    "ImageTerm",
    "LossTerms",
    "PerceptualLoss",
    "Views",
    "add_noise",
    "channel_statistics",
    "content_loss",
    "gram_loss",
    "gram_matrix",
    "mean_std_loss",
    "noise_stability",
    "register",
    "total_variation",
]
