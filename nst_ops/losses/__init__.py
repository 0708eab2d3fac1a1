"""Losses: what it means to keep the content, to carry the style and to be smooth."""

from nst_ops.losses.content import content_loss
from nst_ops.losses.perceptual import PerceptualLoss, PerceptualTerms
from nst_ops.losses.style import gram_matrix, style_loss
from nst_ops.losses.variation import total_variation

__all__ = [
    "PerceptualLoss",
    "PerceptualTerms",
    "content_loss",
    "gram_matrix",
    "style_loss",
    "total_variation",
]
