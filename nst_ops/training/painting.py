"""The painting whose style is learned."""

from __future__ import annotations

import logging
import os

import numpy as np
from PIL import Image

from nst_ops.config import ConfigError
from nst_ops.media.errors import MediaError
from nst_ops.media.images import decode_image
from nst_ops.storage import Folder
from nst_ops.training.photos import UInt8Array

_log = logging.getLogger(__name__)

_SMALLEST = 64
"""Below it there is no brush stroke to learn, only blur."""


def read_painting(uri: str, short_side: int, margin: float = 0.0) -> UInt8Array:
    """The painting, upright sRGB, transparent parts on white: uint8 (H, W, 3).

    Args:
        uri: path or URI of any picture Pillow reads.
        short_side: pixels of the shorter side of what is returned.
        margin: share of each side to cut off first, such as bare canvas around a painting.

    Raises:
        ConfigError: it cannot be read, or is too small to show a style.
    """
    try:
        folder = Folder(os.path.dirname(uri) or ".")
        decoded = decode_image(folder.read_bytes(os.path.basename(uri)))
    except (FileNotFoundError, IsADirectoryError) as error:
        raise ConfigError(f"style: there is no file '{uri}'") from error
    except (MediaError, OSError, ValueError) as error:
        raise ConfigError(f"style: '{uri}' cannot be read: {error}") from error
    picture = Image.fromarray(decoded.rgb_hwc)
    if decoded.alpha_hw is not None and decoded.alpha_hw.min() < 255:
        _log.info("style: '%s' is transparent in parts, they are taken as white", uri)
        white = Image.new("RGB", picture.size, "white")
        picture = Image.composite(picture, white, Image.fromarray(decoded.alpha_hw))
    if np.ptp(decoded.rgb_hwc, axis=2).max() == 0:
        _log.info("style: '%s' is grey, so stylized pictures will be grey", uri)
    left, top = round(picture.width * margin), round(picture.height * margin)
    picture = picture.crop((left, top, picture.width - left, picture.height - top))
    if min(picture.size) < _SMALLEST:
        raise ConfigError(
            f"style: '{uri}' is {picture.width}x{picture.height} px without its margin, too small to show "
            f"a style: give a scan of at least {_SMALLEST} px, better {short_side}"
        )
    scale = short_side / min(picture.size)
    if scale > 2:
        _log.info("style: '%s' is enlarged %.1f times: strokes will be soft", uri, scale)
    width, height = (max(short_side, round(side * scale)) for side in picture.size)
    return np.asarray(picture.resize((width, height), Image.Resampling.LANCZOS))
