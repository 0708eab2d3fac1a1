"""A Johnson network at inference: pad, normalise, run, crop, all on the device."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import psutil
import torch
from torch import Tensor

from nst_ops.models.johnson import JohnsonNet
from nst_ops.stylizers.base import UInt8Array
from nst_ops.stylizers.styles import Style

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
# Networks paint the last pixels before a border lighter or in another hue (measured: up to 30 of 255
# levels in the outer 8): they get this many more, mirrored, which are cut off again.
_MARGIN = 12
# Live feature maps at the widest point, in units of (width x pixels) elements: input and padded
# copy of the last 9x9 layer, its upsampled source, the convolution's workspace: measured 6.0 at 1080p.
_LIVE_MAPS = 6


class JohnsonStylizer:
    """Stylizer of one style.

    Args:
        model: the network, on any device.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``auto`` is fp16 on a GPU and fp32 on a CPU.
    """

    def __init__(self, model: JohnsonNet, device: str = "auto", precision: str = "auto") -> None:
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            self.device = torch.device(device)
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError) as error:
            raise ValueError(f"no device '{device}' here: {str(error).splitlines()[0]}") from error
        if precision == "auto":
            precision = "fp16" if self.device.type == "cuda" else "fp32"
        self.dtype = _DTYPES[precision]
        self.model = model.eval().to(self.device, self.dtype).to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def __call__(self, frames_nhwc: UInt8Array, styles: Sequence[Style] = ()) -> UInt8Array:
        """See ``Stylizer``."""
        _, height, width, _ = frames_nhwc.shape
        fits = self._frames_that_fit(height, width)
        if fits < len(frames_nhwc):
            return np.concatenate([self(frames_nhwc[i : i + fits]) for i in range(0, len(frames_nhwc), fits)])
        frames = torch.from_numpy(np.require(frames_nhwc, requirements=("C", "W"))).to(self.device)
        x_bchw = frames.permute(0, 3, 1, 2).to(self.dtype).div_(255)
        rows, columns = _reflected(height, self.device), _reflected(width, self.device)
        x_bchw = x_bchw[:, :, rows][:, :, :, columns]
        y_bchw = self.model(x_bchw.contiguous(memory_format=torch.channels_last))
        y_bchw = y_bchw[:, :, _MARGIN : _MARGIN + height, _MARGIN : _MARGIN + width]
        y_bchw = y_bchw.float().mul(255).round_().clamp_(0, 255)
        stylized: UInt8Array = y_bchw.to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()
        return stylized

    def _frames_that_fit(self, height: int, width: int) -> int:
        """Frames that the free memory holds at once.

        Raises:
            MemoryError: not even one.
        """
        channels = int(self.model.config["width"])
        per_frame = _LIVE_MAPS * channels * _padded(height) * _padded(width) * self.dtype.itemsize
        if self.device.type == "cuda":
            free = torch.cuda.mem_get_info(self.device)[0] + torch.cuda.memory_reserved(self.device)
        else:
            free = psutil.virtual_memory().available
        if per_frame > free:
            raise MemoryError(
                f"{width}x{height} pixels need about {per_frame / 2**30:.1f} GiB, {free / 2**30:.1f} free: "
                "set resize.max_side to a smaller size"
            )
        return int(free // per_frame)


def _padded(side: int) -> int:
    """``side`` with its margins, up to the stride."""
    return math.ceil((side + 2 * _MARGIN) / JohnsonNet.stride) * JohnsonNet.stride


def _reflected(side: int, device: torch.device) -> Tensor:
    """Indices that pad ``side`` by reflection to ``_padded(side)``."""
    # numpy reflects again and again where a side is shorter than its padding; torch would refuse.
    after = _padded(side) - side - _MARGIN
    return torch.from_numpy(np.pad(np.arange(side), (_MARGIN, after), mode="reflect")).to(device)
