"""Run a stylizer of your own over a collection: here a pencil sketch, without any network.

    python examples/own_stylizer.py INPUT OUTPUT

A stylizer is a function of a batch of frames. Reading, smoothing over time, encoding, retries, the manifest
and the report come with the run.
"""

import sys
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from nst_ops import StylizeConfig, stylize_collection
from nst_ops.config import ModelConfig
from nst_ops.stylizers import Style
from nst_ops.stylizers.registry import ModelKind, Stylizer, register


def sketch(frames_nhwc: npt.NDArray[np.uint8], styles: Sequence[Style] = ()) -> npt.NDArray[np.uint8]:
    """Draw frames in pencil: uint8 sRGB (N, H, W, 3) to the same shape."""
    drawn = []
    for frame_hwc in frames_nhwc:
        gray = cv2.cvtColor(frame_hwc, cv2.COLOR_RGB2GRAY)
        blurred = cv2.GaussianBlur(255 - gray, (0, 0), 8)
        drawn.append(cv2.cvtColor(cv2.divide(gray, 255 - blurred, scale=256), cv2.COLOR_GRAY2RGB))
    return np.stack(drawn)


def load_sketch(model: ModelConfig, alpha: float) -> Stylizer:
    """Make the stylizer, once in each worker: the place to load weights."""
    return sketch


def main(arguments: list[str]) -> int:
    """Make the kind known, and run it like any other."""
    source, output = arguments
    register(ModelKind("sketch", load_sketch, uses_device=False))
    model = ModelConfig(kind="sketch")
    summary = stylize_collection(StylizeConfig(input=source, output=output, model=model, executor="local"))
    print(summary.table())
    return summary.exit_code


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
