"""Frames of videos on a device: YUV planes go up and come down, RGB is made of them and into them there.

One precision, fp32. What is of another format, or is resized or tone-mapped, is converted on the host, and RGB goes up.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from torch import Tensor

from nst_ops.media.images import UInt8Array
from nst_ops.media.video.color import (
    FULL,
    WRITTEN_PLANES,
    YuvPlanes,
    frame_of_planes,
    read_planes,
    rgb_of_yuv,
    to_rgb,
    to_yuv,
    yuv_of_rgb,
)
from nst_ops.media.video.container import Frame
from nst_ops.media.video.writer import EncodedAs
from nst_ops.models.host_copies import host_copies
from nst_ops.stylizers.memory import holding

_SMOOTHING_BYTES = 100  # per pixel that a smoother takes while it is at work, beside the frames that it holds; measured


class DeviceFrames:
    """Frames of videos on one device: RGB is uint8 (H, W, 3) there. Any number of threads may use it."""

    def __init__(self, device: torch.device) -> None:
        self.device, self._copies = device, host_copies(device)
        if device.type == "cuda":
            # Blurs and flow are convolutions: in TF32 they would be off by a level. It is the process' own setting.
            torch.backends.cudnn.allow_tf32 = False

    def to_rgb(
        self,
        reformatter: VideoReformatter,
        frame: VideoFrame,
        size: tuple[int, int],
        matrix: int,
        pixel_format: str = "rgb24",
    ) -> Any:
        """Convert a decoded frame on the device where it knows its format, else on the host: see ``color.to_rgb``."""
        planes = read_planes(frame, size) if pixel_format == "rgb24" else None
        if planes is None:
            return to_rgb(reformatter, frame, size, matrix, pixel_format)
        return self._rgb_of(planes, matrix)

    def place(self, frame: Frame) -> Frame:
        """Return a frame on the device, wherever it is."""
        return frame if isinstance(frame.rgb_hwc, Tensor) else replace(frame, rgb_hwc=self.up(frame.rgb_hwc))

    def up(self, rgb: UInt8Array) -> Tensor:
        """Return pixels of the host on the device."""
        return self._copies.up(rgb)

    def down(self, rgb: Tensor) -> UInt8Array:
        """Return pixels of the device on the host; waits for them."""
        return self._copies.down(rgb).result()

    def stack(self, frames: Sequence[Tensor]) -> Tensor:
        """Return frames of one size as a batch, (N, H, W, 3)."""
        return torch.stack(list(frames))

    def join(self, frames: Sequence[Tensor]) -> Tensor:
        """Return frames of one height beside each other."""
        return torch.cat(list(frames), 1)

    def start_yuv(self, rgb_hwc: Tensor, wanted: EncodedAs) -> Callable[[], VideoFrame]:
        """Start to convert a frame for an encoder, odd sides padded to even ones; return what waits for it."""
        if wanted.pixel_format not in WRITTEN_PLANES:
            rgb_on_its_way = self._copies.down(rgb_hwc)
            return lambda: to_yuv(VideoReformatter(), rgb_on_its_way.result(), *wanted)
        bits = WRITTEN_PLANES[wanted.pixel_format]
        planes = _yuv_of(rgb_hwc, wanted, bits)
        on_its_way = self._copies.down(torch.cat([plane.flatten() for plane in planes]))
        shapes = [plane.shape for plane in planes]

        def wait() -> VideoFrame:
            codes = on_its_way.result()
            codes = codes if bits == 8 else codes.view(np.uint16)
            ends = np.cumsum([height * width for height, width in shapes])
            parts = zip(np.split(codes, ends[:-1]), shapes, strict=True)
            return frame_of_planes([part.reshape(shape) for part, shape in parts], wanted.pixel_format)

        return wait

    def new_stream(self) -> torch.cuda.Stream | None:
        """Return a stream for work that is not to queue up behind the network's; None on a CPU."""
        return torch.cuda.Stream(self.device) if self.device.type == "cuda" else None

    @contextlib.contextmanager
    def smoothing(
        self, size: tuple[int, int], stream: torch.cuda.Stream | None, tensors: Sequence[Tensor]
    ) -> Iterator[None]:
        """Smooth frames of a height and width in here, on a stream of ``new_stream``, beside the network.

        ``tensors`` are what it is given, finished: they were made on another stream.
        """
        height, width = size
        with holding(_SMOOTHING_BYTES * height * width, self.device):
            if stream is None:
                yield
                return
            for x in tensors:
                x.record_stream(stream)
            with torch.cuda.stream(stream):
                yield

    def wait(self) -> None:
        """Wait until the current stream has done all that it was told, without keeping a core busy."""
        if self.device.type == "cuda":
            done = torch.cuda.Event(blocking=True)
            done.record(torch.cuda.current_stream(self.device))
            done.synchronize()

    def _rgb_of(self, planes: YuvPlanes, matrix: int) -> Tensor:
        """Convert planes to RGB: chroma is enlarged by cubic interpolation, its 8 bits rounded again as on the host."""
        luma = self._codes(planes.luma, planes)[:, : planes.width]
        raw = [self._codes(each, planes) for each in planes.chroma]
        if len(raw) == 1:  # Cb and Cr by turns
            raw = [raw[0][:, place::2] for place in (0, 1)]
        chroma = torch.stack(raw)[None, :, :, : planes.chroma_width]
        if chroma.shape[2:] != luma.shape:
            chroma = F.interpolate(chroma, luma.shape, mode="bicubic")
            chroma = chroma.round_().clamp_(0, 255) if planes.bits == 8 else chroma
        to_rgb = _affine(matrix, planes.is_full, planes.bits, False, self.device)
        rgb = torch.addmm(to_rgb[:, 3:], to_rgb[:, :3], torch.cat([luma[None], chroma[0]]).flatten(1))
        return rgb.add_(0.5).floor_().clamp_(0, 255).to(torch.uint8).view(3, *luma.shape).movedim(0, -1)

    def _codes(self, plane: Any, planes: YuvPlanes) -> Tensor:
        """Return the codes of a plane as float32."""
        if planes.bits == 8:
            return self._copies.up(plane).float()
        codes = self._copies.up(plane.view(np.int16)).int() & 0xFFFF
        return (codes >> planes.shift).float()


def _yuv_of(rgb_hwc: Tensor, wanted: EncodedAs, bits: int) -> list[Tensor]:
    """Return Y, Cb and Cr, uint8 or int16: chroma is that of the mean of its pixels."""
    rgb = rgb_hwc.movedim(-1, 0).float()
    height, width = rgb.shape[1:]
    if height % 2 or width % 2:
        rgb = F.pad(rgb[None], (0, width % 2, 0, height % 2), mode="replicate")[0]
    across, down = 1 if "444" in wanted.pixel_format else 2, 2 if "420" in wanted.pixel_format else 1
    to_yuv = _affine(wanted.matrix, wanted.color_range == FULL, bits, True, rgb.device)
    planes: list[Tensor] = []
    for rows, pixels in ((slice(0, 1), rgb), (slice(1, 3), F.avg_pool2d(rgb, (down, across)))):
        codes = torch.addmm(to_yuv[rows, 3:], to_yuv[rows, :3], pixels.flatten(1))
        planes += _rounded(codes, bits).view(-1, *pixels.shape[1:])
    return planes


def _rounded(values: Tensor, bits: int) -> Tensor:
    levels = values.round_().clamp_(0, (1 << bits) - 1)
    return levels.to(torch.uint8 if bits == 8 else torch.int16)


@functools.lru_cache(maxsize=64)
def _affine(matrix: int, is_full: bool, bits: int, to_yuv: bool, device: torch.device) -> Tensor:
    """Return a map between RGB and YUV, (3, 4), float32 on a device: kept, since to copy it there waits for all."""
    affine = (yuv_of_rgb if to_yuv else rgb_of_yuv)(matrix, is_full, bits)
    if bits == 8 and not to_yuv:
        # OpenCV rounds the map so. Of a level in the source networks make several: it is to be that of the host.
        affine = np.rint(affine.astype(np.float32) * 1024) / 1024
    return torch.from_numpy(affine.astype(np.float32)).to(device)
