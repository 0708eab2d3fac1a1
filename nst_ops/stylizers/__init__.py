"""Inference: uint8 frames in, uint8 frames out.

To add one: a class with the ``Stylizer`` call and a line in ``load_stylizer``.
"""

from nst_ops.stylizers.base import PRETRAINED, Stylizer, load_stylizer, resolve_checkpoint
from nst_ops.stylizers.style_images import Style

__all__ = ["PRETRAINED", "Style", "Stylizer", "load_stylizer", "resolve_checkpoint"]
