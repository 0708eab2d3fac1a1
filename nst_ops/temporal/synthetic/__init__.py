"""Clips of which the motion is known exactly: made from still pictures, no file needed.

A clip is made of layers, each a picture that moves as one piece: where it comes to lie in
each frame is an affine map. So flow and occlusion between any two frames follow from the
maps, and nothing has to be estimated.
"""

from nst_ops.temporal.synthetic.clip import Clip, Layer
from nst_ops.temporal.synthetic.suite import draw_texture, make_clips

__all__ = ["Clip", "Layer", "draw_texture", "make_clips"]
