"""Pictures to train on, kept in memory as bytes: which ones a step takes, and their crops.

Everything random is a function of the seed and the number of the step, so a run that goes on
from step N sees exactly what an uninterrupted one would have seen, whatever the number of
workers: there is no state of a loader to save.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

UInt8Array = npt.NDArray[np.uint8]
IntArray = npt.NDArray[np.int64]
Place = tuple[int, int]
_PHOTO_STREAM, _STYLE_STREAM, _ZOOM_STREAM = 0, 2, 4
"""Where random numbers come from, beside the seed; pictures have two streams, for order and for crops."""


def square(pixels_hwc: UInt8Array, side: int) -> UInt8Array:
    """The middle square of a picture, resized to ``side``: uint8 (side, side, 3)."""
    height, width = pixels_hwc.shape[:2]
    short = min(height, width)
    left, top = (width - short) // 2, (height - short) // 2
    box = (left, top, left + short, top + short)
    picture = Image.fromarray(pixels_hwc)
    return np.asarray(picture.resize((side, side), Image.Resampling.LANCZOS, box=box, reducing_gap=3.0))


def to_tensor(pixels: UInt8Array, stride: int = 1) -> Tensor:
    """Uint8 (N, H, W, 3) or (H, W, 3) to float (N, 3, H', W') in [0, 1], cut to multiples of ``stride``."""
    pixels = pixels if pixels.ndim == 4 else pixels[None]
    height, width = (side // stride * stride for side in pixels.shape[1:3])
    cut = torch.from_numpy(pixels[:, :height, :width].copy())
    return cut.permute(0, 3, 1, 2).float().div_(255.0)


def hold_out(places: Sequence[Place], count: int) -> tuple[list[Place], list[Place]]:
    """The photographs to train on, and ``count`` of them, a tenth at most, spread evenly, to judge by.

    Of fewer than ten, none is spared: the first four serve for both.
    """
    count = min(count, len(places) // 10)
    if not count:
        return list(places), list(places[:4])
    judged = {round((i + 0.5) * len(places) / count) for i in range(count)}
    return [p for i, p in enumerate(places) if i not in judged], [places[i] for i in sorted(judged)]


@dataclass(frozen=True)
class Photos:
    """Photographs in blocks, whose other rows are of no concern.

    Attributes:
        blocks: uint8 (N, S, S, 3) RGB each, all of one side S; may lie in shared memory.
        places: (block, row) of each photograph.
    """

    blocks: Sequence[UInt8Array]
    places: Sequence[Place]

    def __len__(self) -> int:
        return len(self.places)

    @property
    def side(self) -> int:
        """Pixels of a photograph's side."""
        return int(self.blocks[0].shape[1])

    def take(self, indices: Sequence[int] | IntArray) -> UInt8Array:
        """Copies of some photographs: uint8 (B, S, S, 3)."""
        return np.stack([self.blocks[block][row] for block, row in (self.places[i] for i in indices)])


@dataclass(frozen=True)
class Crops:
    """Whole photographs and where to cut them: the cutting is the device's work.

    Attributes:
        photos: uint8 (B, S, S, 3).
        top, left: int64 (B,), upper left corners in pixels.
        mirrored: bool (B,).
        size: side of the crops.
        side: side to which the photographs are resized before they are cut.
    """

    photos: Tensor
    top: Tensor
    left: Tensor
    mirrored: Tensor
    size: int
    side: int

    def to(self, device: torch.device) -> Crops:
        """The same on ``device``; from pinned memory the copy overlaps with what the device does."""
        if device.type == "cpu":
            return self
        photos, top, left, mirrored = (
            tensor.pin_memory().to(device, non_blocking=True)
            for tensor in (self.photos, self.top, self.left, self.mirrored)
        )
        return Crops(photos, top, left, mirrored, self.size, self.side)

    def whole(self) -> Tensor:
        """The photographs before they are cut: float (B, 3, side, side) in [0, 1]."""
        whole = self.photos.permute(0, 3, 1, 2).float().div_(255.0)
        if self.side == whole.shape[-1]:
            return whole
        return F.interpolate(whole, self.side, mode="bicubic", antialias=True).clamp_(0, 1)

    def cut(self, whole: Tensor | None = None) -> Tensor:
        """The crops.

        Args:
            whole: (B, 3, side, side), what to cut instead of the photographs, such as what became of them.

        Returns:
            Float (B, 3, size, size) in [0, 1], channels-last.
        """
        if whole is None and self.side != self.photos.shape[1]:
            whole = self.whole()
        span = torch.arange(self.size, device=self.photos.device)
        rows = self.top[:, None] + span
        columns = self.left[:, None] + torch.where(self.mirrored[:, None], span.flip(0), span)
        picture = torch.arange(len(self.photos), device=self.photos.device)
        at = (picture[:, None, None], rows[:, :, None], columns[:, None, :])
        if whole is not None:
            return whole.permute(0, 2, 3, 1)[at].permute(0, 3, 1, 2)
        return self.photos[at].permute(0, 3, 1, 2).float().div_(255.0)  # bytes are a quarter to move


@dataclass(frozen=True)
class Batch:
    """What a worker takes at a step: crops of photographs, and of style pictures if there are any."""

    photos: Crops
    styles: Crops | None = None

    def to(self, device: torch.device) -> Batch:
        """The same on ``device``."""
        return Batch(self.photos.to(device), self.styles.to(device) if self.styles else None)

    def cut(self) -> tuple[Tensor, Tensor | None]:
        """The crops, as of ``Crops.cut``."""
        return self.photos.cut(), self.styles.cut() if self.styles else None


class Batches:
    """The crops of each step.

    Args:
        photos: what to draw from; every photograph once before any comes again.
        batch_size: of all workers together.
        image_size: side of the crops in pixels.
        seed: of order, crops and mirroring.
        rank: which worker this is; it gets every ``world``-th photograph of a batch.
        world: how many workers there are; divides ``batch_size``.
        styles: style pictures, of which a step takes as many, drawn in an order of their own.
        zoom: smallest and largest factor by which all photographs of a step are resized before
            they are cut.
    """

    def __init__(
        self,
        photos: Photos,
        batch_size: int,
        image_size: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        styles: Photos | None = None,
        zoom: tuple[float, float] = (1.0, 1.0),
    ) -> None:
        self.zoom = zoom
        self.photos, self.batch_size, self.image_size, self.seed = photos, batch_size, image_size, seed
        self.mine = slice(rank, None, world)
        self.styles = styles
        self._order = lru_cache(maxsize=4)(self._shuffled)

    def _shuffled(self, count: int, stream: int, epoch: int) -> IntArray:
        return np.random.default_rng([self.seed, stream, epoch]).permutation(count)

    def indices(self, step: int) -> IntArray:
        """Which photographs all workers together take at ``step``, counted from 1."""
        return self._indices(step, len(self.photos), _PHOTO_STREAM)

    def _indices(self, step: int, count: int, stream: int) -> IntArray:
        views = np.arange((step - 1) * self.batch_size, step * self.batch_size)
        epochs, places = np.divmod(views, count)
        return np.array([self._order(count, stream, int(e))[p] for e, p in zip(epochs, places, strict=True)])

    def __call__(self, step: int) -> Batch:
        """This worker's share of the batch of ``step``."""
        zoom = np.random.default_rng([self.seed, _ZOOM_STREAM, step]).uniform(*self.zoom)
        side = max(self.image_size, round(zoom * self.photos.side))
        photos = self._crops(self.photos, step, _PHOTO_STREAM, side)
        if not self.styles:
            return Batch(photos)
        return Batch(photos, self._crops(self.styles, step, _STYLE_STREAM, self.styles.side))

    def _crops(self, pictures: Photos, step: int, stream: int, side: int) -> Crops:
        rng = np.random.default_rng([self.seed, stream + 1, step])
        corners = rng.integers(side - self.image_size + 1, size=(2, self.batch_size))
        mirrored = rng.random(self.batch_size) < 0.5
        top, left = (torch.from_numpy(corner[self.mine].copy()) for corner in corners)
        taken = torch.from_numpy(pictures.take(self._indices(step, len(pictures), stream)[self.mine]))
        return Crops(taken, top, left, torch.from_numpy(mirrored[self.mine].copy()), self.image_size, side)


class Prefetcher:
    """Gives the batches of one step after the other; a thread readies the next one meanwhile."""

    def __init__(self, batches: Batches, device: torch.device, first: int) -> None:
        self.batches, self.device, self.step = batches, device, first
        self.wait_s = 0.0
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._next: Future[Batch] = self._pool.submit(self._load, first)

    def _load(self, step: int) -> Batch:
        return self.batches(step).to(self.device)

    def __call__(self) -> Batch:
        """The batch of the next step on the device; what it waits for them is added to ``wait_s``."""
        started = time.perf_counter()
        batch = self._next.result()
        self.wait_s += time.perf_counter() - started
        self.step += 1
        self._next = self._pool.submit(self._load, self.step)
        return batch

    def close(self) -> None:
        """Stop the thread."""
        self._pool.shutdown(cancel_futures=True)
