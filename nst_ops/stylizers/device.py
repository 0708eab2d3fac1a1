"""Devices at inference: precision, conversion of frames, padding."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nst_ops.media.images import UInt8Array
from nst_ops.models.device import find_device
from nst_ops.models.host_copies import Download, host_copies
from nst_ops.models.host_memory import keep_freed_memory

Frames = UInt8Array | Tensor
"""Frames, uint8 (N, H, W, 3), on the host or on a stylizer's device."""

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def choose_device(device: str, precision: str) -> tuple[torch.device, torch.dtype]:
    """Return the device by its name (see ``find_device``) and the type.

    ``auto`` is fp16 on a GPU, bf16 on a CPU that multiplies in it, else fp32. On a CPU the process keeps what it frees.
    """
    chosen = find_device(device)
    if chosen.type == "cpu":
        keep_freed_memory()
    if precision == "auto":
        precision = "fp16" if chosen.type == "cuda" else "bf16" if cpu_has_bf16() else "fp32"
    return chosen, _DTYPES[precision]


def cpu_has_bf16() -> bool:
    """Return whether the CPU multiplies bf16 numbers, which is then twice as fast as fp32; others emulate it."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def describe(stylizer: object) -> tuple[str | None, str | None]:
    """Return where a stylizer computes, ``cpu`` or the name of a GPU, and in what; None where it does not say."""
    device, dtype = device_of(stylizer), getattr(stylizer, "dtype", None)
    name = str(device) if device else None
    if device and device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    return name, next((precision for precision, known in _DTYPES.items() if known == dtype), None)


def device_of(stylizer: object) -> torch.device | None:
    """Return the device that a stylizer computes on; None where it does not say."""
    device: torch.device | None = getattr(stylizer, "device", None)
    return device


def to_network(frames_nhwc: Frames, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Convert uint8 frames to a channels-last (N, 3, H, W) in [0, 1] on the device."""
    frames = frames_nhwc if isinstance(frames_nhwc, Tensor) else host_copies(device).up(frames_nhwc)
    return frames.permute(0, 3, 1, 2).to(dtype).div_(255)


def to_frames(y_bchw: Tensor) -> UInt8Array:
    """Convert (N, 3, H, W) in [0, 1] to uint8 (N, H, W, 3) on the host, rounded and clamped."""
    return np.asarray(start_frames(y_bchw).result())


def start_frames(y_bchw: Tensor, stay: bool = False) -> Download | Kept:
    """Start what ``to_frames`` does; its result is the frames, which may ``stay`` on the device."""
    y_bchw = y_bchw.float().mul(255).round_().clamp_(0, 255)
    frames_nhwc = y_bchw.to(torch.uint8).permute(0, 2, 3, 1)
    return Kept(frames_nhwc) if stay else host_copies(y_bchw.device).down(frames_nhwc)


@dataclass(frozen=True)
class Kept:
    """Frames that stay on the device, in the place of a ``Download``."""

    frames_nhwc: Tensor

    def result(self) -> Tensor:
        """Return them, without waiting for the device."""
        return self.frames_nhwc


def pad(x_bchw: Tensor, stride: int, margin: int = 0) -> Tensor:
    """Pad by reflection with ``margin`` at each side, and at the right and the bottom up to the stride."""
    rows, columns = (
        _mirrored(side, margin, padded(side, stride, margin) - side - margin, x_bchw.device)
        for side in x_bchw.shape[2:]
    )
    return x_bchw[:, :, rows][:, :, :, columns].contiguous(memory_format=torch.channels_last)


@functools.lru_cache(256)
def _mirrored(side: int, before: int, after: int, device: torch.device) -> Tensor:
    """Return the places of a side that its padded form shows; kept, as a small copy to a GPU waits for all before."""
    # numpy reflects again and again where a side is shorter than its padding; torch would refuse.
    places = torch.from_numpy(np.pad(np.arange(side), (before, after), mode="reflect"))
    with torch.inference_mode(False):
        return places.to(device, copy=True)


def padded(side: int, stride: int, margin: int = 0) -> int:
    """Return ``side`` with its margins, rounded up to the stride, and twice the stride at least."""
    # A feature map one position wide can neither be reflected again nor has it a deviation.
    return max(math.ceil((side + 2 * margin) / stride), 2) * stride
