"""What an ONNX file does not say of its network, found by trying: the stride, and the ranges of its values.

The ranges are those with which the network makes pictures of pictures: as light, as rich in contrast and as dark and
light in the same places as what went in, or in the opposite ones, and with no values beyond the range. A network that
normalizes each image makes the same of several ranges of its input; then the one that it gives is taken. The order of
colors cannot be found: a picture in wrong colors is one, too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from nst_ops.config.stylize import OnnxConfig
from nst_ops.media.errors import NetworkError
from nst_ops.models.weights import CheckpointError
from nst_ops.stylizers.onnx_network import RANGES, SMALLEST_SIDE, FloatArray, OnnxNetwork, from_values, to_values

_STRIDES = 1, 2, 4, 8, 16, 32, 64
_PROBE_SIDE = 128  # where the network takes any
_BLACK_OR_WHITE = 0.002  # as far from the ends of a range
_OTHER_RANGE = 0.06  # by how much better the picture has to be where the two ranges are not the same


def settle(network: OnnxNetwork, config: OnnxConfig) -> OnnxConfig:
    """Return the configuration with all that it leaves to be found; raises CheckpointError where nothing serves."""
    try:
        return _settle(network, config)
    except (NetworkError, torch.OutOfMemoryError) as error:
        raise CheckpointError(f"{network.path}: cannot be tried: {error}") from error


def _settle(network: OnnxNetwork, config: OnnxConfig) -> OnnxConfig:
    stride = _find_stride(network, [config.stride] if config.stride else _STRIDES)
    settled = config.model_copy(update={"layout": network.layout, "stride": stride})
    inputs = [name for name in RANGES if config.input_range in (name, "auto")]
    outputs = [name for name in RANGES if config.output_range in (name, "auto") and name != "imagenet"]
    if len(inputs) == len(outputs) == 1:
        return settled
    height, width = (side or _PROBE_SIDE for side in network.fixed)
    pictures = made_up_pictures(height, width)
    scores: dict[tuple[str, str], float] = {}
    for input_range in inputs:
        made = np.concatenate([network(to_values(picture, input_range)[None]) for picture in pictures])
        for output_range in outputs:
            score = _score(pictures, from_values(made, output_range))
            scores[input_range, output_range] = score - _OTHER_RANGE * (input_range != output_range)
    input_range, output_range = max(scores, key=lambda pair: scores[pair])
    if scores[input_range, output_range] == -math.inf:
        raise network.refusal("makes values that are no numbers", "export it for float, not float16")
    return settled.model_copy(update={"input_range": input_range, "output_range": output_range})


def made_up_pictures(height: int, width: int) -> FloatArray:
    """Return a light, a medium and a dark picture, (3, H, W, 3) in [0, 1]: clouds of all sizes, as photographs have."""
    generator = np.random.default_rng(0)
    frequency_hw = np.hypot(np.fft.fftfreq(height)[:, None] * height, np.fft.rfftfreq(width) * width)
    spectrum_hw = 1 / np.maximum(frequency_hw, 1) ** 1.5
    pictures = []
    for mean, contrast in ((0.65, 0.15), (0.5, 0.2), (0.3, 0.12)):
        noise_hwc = generator.standard_normal((height, width, 4))
        clouds_hwc = np.fft.irfft2(
            np.fft.rfft2(noise_hwc, axes=(0, 1)) * spectrum_hw[..., None], (height, width), (0, 1)
        )
        clouds_hwc = (clouds_hwc - clouds_hwc.mean((0, 1))) / clouds_hwc.std((0, 1))
        gray_hwc, colors_hwc = clouds_hwc[..., 3:], clouds_hwc[..., :3]  # colors vary less than light
        pictures.append(mean + contrast * (0.9 * gray_hwc + 0.45 * colors_hwc))
    return np.asarray(np.clip(np.stack(pictures), 0.02, 0.98), np.float32)


def _find_stride(network: OnnxNetwork, strides: Sequence[int]) -> int:
    """Return the first of the strides with which the network makes as many pixels as it gets."""
    refusal = None
    for stride in strides:
        # Odd multiples: an even one would be a multiple of a larger stride, too.
        height, width = (
            side or SMALLEST_SIDE // stride * stride + times * stride
            for side, times in zip(network.fixed, (1, 3), strict=True)
        )
        x_nhwc = made_up_pictures(height, width)[:1]
        try:
            y_nhwc = network(x_nhwc)
        except NetworkError as error:
            refusal = refusal or CheckpointError(
                f"{network.path}: {error}: give --model.onnx.stride, or another network"
            )
            continue
        if y_nhwc.shape == x_nhwc.shape:
            return stride
        refusal = network.other_size(x_nhwc, y_nhwc)
        if all(network.fixed):
            break
    assert refusal
    raise refusal


def _score(pictures: FloatArray, made: FloatArray) -> float:
    """Return how much what was made of pictures, both (N, H, W, 3), looks like them: 1 for the same."""
    if not np.isfinite(made).all():
        return -math.inf
    black_or_white = float(np.mean(np.abs(made - 0.5) >= 0.5 - _BLACK_OR_WHITE))
    low, high = np.quantile(made, (0.01, 0.99))
    beyond = min(1.0, max(0.0, -low, high - 1))
    made = np.clip(made, 0, 1)
    differences = abs(pictures.mean() - made.mean()) + abs(pictures.std((1, 2)).mean() - made.std((1, 2)).mean())
    likeness = [abs(_correlation(*pair)) for pair in zip(pictures.mean(3), made.mean(3), strict=True)]
    return float(np.mean(likeness) - black_or_white - beyond - differences)


def _correlation(a_hw: FloatArray, b_hw: FloatArray) -> float:
    a_hw, b_hw = a_hw - a_hw.mean(), b_hw - b_hw.mean()
    return float((a_hw * b_hw).mean() / max(1e-6, a_hw.std() * b_hw.std()))
