"""Inference: uint8 frames in, uint8 frames out; ``registry`` lists the kinds of models there are."""

from nst_ops.media.style_images import Style
from nst_ops.stylizers.registry import KINDS, ModelKind, Stylizer, load_stylizer, model_kind, register

__all__ = ["KINDS", "ModelKind", "Style", "Stylizer", "load_stylizer", "model_kind", "register"]
