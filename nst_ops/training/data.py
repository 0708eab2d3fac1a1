"""Training data: content and style images, read once, cut anew for each step."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import ray
import torch
import torch.nn.functional as F
from PIL import Image
from ray.data import DataContext
from ray.data.block import BlockAccessor
from rich.console import Console
from rich.progress import track
from torch import Tensor

from nst_ops.config import ConfigError, TrainingConfig
from nst_ops.media.errors import MediaError
from nst_ops.media.formats import media_kind
from nst_ops.media.images import decode_image
from nst_ops.storage import Folder

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
        _log.info("style: '%s' is gray, so stylized pictures will be gray", uri)
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


What = Literal["content", "style"]
_NOUNS: dict[What, str] = {"content": "photographs", "style": "style pictures"}
_PER_BLOCK = 64
_NAMED = 5
_SHARE_OF_MEMORY = 0.8


@dataclass(frozen=True)
class StoredPhotos:
    """Photographs in the object store; ``load`` maps them into a worker."""

    blocks: list[Any]
    trained: list[Place]
    judged: list[Place]
    skipped: dict[str, str]
    """Files that could not be read, with the reason."""

    def load(self) -> tuple[Photos, Photos]:
        """Those to train on and those to judge by; on the node that holds a block it is not copied."""
        blocks: list[UInt8Array] = [
            cast(UInt8Array, BlockAccessor.for_block(block).to_numpy("pixels"))
            for block in ray.get(self.blocks)
        ]
        return Photos(blocks, self.trained), Photos(blocks, self.judged)


def list_pictures(config: TrainingConfig, what: What = "content") -> list[str]:
    """Relative paths of the photographs or style pictures to use, sorted; of too many, a random sample.

    Raises:
        ConfigError: there is no such folder, or no picture in it.
    """
    folder = _folder(config, what)
    if not folder.exists():
        raise ConfigError(f"data.{what}: there is no folder '{folder.uri()}'")
    names = sorted(file.relpath for file in folder.files() if media_kind(file.relpath) == "image")
    if not names:
        raise ConfigError(f"data.{what}: no pictures in '{folder.uri()}'")
    if len(names) > config.data.limit:
        _log.info("taking %d of %d pictures (data.limit)", config.data.limit, len(names))
        rng = np.random.default_rng(config.train.seed)
        names = sorted(rng.choice(names, config.data.limit, replace=False).tolist())
    return names


def ingest(config: TrainingConfig, names: list[str], what: What = "content") -> StoredPhotos:
    """Decode and resize the pictures ``names`` on the cluster that Ray is connected to.

    Pictures that cannot be read are skipped, counted and named: one bad file should neither
    end a training run nor go unnoticed.

    Raises:
        ConfigError: fewer readable pictures than a batch needs, or more than the memory holds.
    """
    side = config.resize if what == "content" else config.style_resize
    _refuse_too_many(len(names), side, what)
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.enable_operator_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    num_blocks = -(-len(names) // _PER_BLOCK)
    files = ray.data.from_items([{"relpath": name} for name in names], override_num_blocks=num_blocks)
    decoded = files.map_batches(
        decode_squares,  # type: ignore[arg-type]  # Ray's type leaves out fn_kwargs
        batch_size=_PER_BLOCK,
        fn_kwargs={"uri": _folder(config, what).uri(), "side": side},
    )
    outcomes = ray.remote(num_cpus=0)(_outcomes)
    blocks, reports = [], []
    # The references are kept: an iterator alone would let go of each block after its turn.
    bundles = track(
        decoded.iter_internal_ref_bundles(),
        description=f"decoding {_NOUNS[what]}",
        total=num_blocks,
        console=Console(stderr=True),
        disable=not Console(stderr=True).is_terminal,
        transient=True,
    )
    for bundle in bundles:
        blocks += bundle.block_refs
        reports += [outcomes.remote(ref) for ref in bundle.block_refs]
    rows = [
        ((block, row), name, error)
        for block, report in enumerate(ray.get(reports))
        for row, (name, error) in enumerate(report)
    ]
    rows.sort(key=lambda item: item[1])  # blocks come in any order, the training should not depend on it
    places = [place for place, _, error in rows if not error]
    skipped = {name: error for _, name, error in rows if error}
    for name, error in list(skipped.items())[:_NAMED]:
        _log.warning("skipped %s: %s", name, error)
    if len(skipped) > _NAMED:
        _log.warning("... and %d more", len(skipped) - _NAMED)
    _log.info("%d %s in memory, %d files skipped", len(places), _NOUNS[what], len(skipped))
    if not places:
        raise ConfigError(f"data.{what}: none of the {len(names)} {_NOUNS[what]} can be read")
    if len(places) < config.train.batch_size and what == "content":
        raise ConfigError(
            f"data.content: {len(places)} readable photographs are fewer than a batch: "
            f"add some, or take --train.batch_size {len(places)}"
        )
    return StoredPhotos(blocks, *hold_out(places, config.data.held_out), skipped)


def _folder(config: TrainingConfig, what: What) -> Folder:
    uri = config.data.content if what == "content" else config.data.style
    assert uri, f"data.{what} is not given"
    return Folder(uri)


def _refuse_too_many(count: int, side: int, what: What) -> None:
    """Every node that trains keeps all pictures; what spilled to disk would be read back all the time."""
    per_photo = 3 * side * side
    memory = min(node["Resources"].get("object_store_memory", 0) for node in ray.nodes() if node["Alive"])
    room = int(_SHARE_OF_MEMORY * memory / per_photo)
    if count > room:
        raise ConfigError(
            f"data.{what}: {count} {_NOUNS[what]} of {side} px take {count * per_photo / 1e9:.1f} GB, Ray's "
            f"object store {memory / 1e9:.1f} GB on a node: take --data.limit {room}, or give Ray more memory"
        )


def decode_squares(batch: dict[str, Any], uri: str, side: int) -> dict[str, Any]:
    """``relpath`` in; ``relpath``, ``error`` and uint8 ``pixels`` (N, side, side, 3) out, 0 where error."""
    folder = Folder(uri)
    pixels = np.zeros((len(batch["relpath"]), side, side, 3), np.uint8)
    errors = []
    for row, relpath in enumerate(batch["relpath"]):
        try:
            pixels[row] = square(decode_image(folder.read_bytes(relpath)).rgb_hwc, side)
            errors.append("")
        except (MediaError, OSError) as error:
            errors.append(str(error) or type(error).__name__)
    return {"relpath": batch["relpath"], "error": np.array(errors, dtype=object), "pixels": pixels}


def _outcomes(block: Any) -> list[tuple[str, str]]:
    """(relpath, error) of each row, so that the driver need not fetch the pixels."""
    columns = BlockAccessor.for_block(block).to_numpy(["relpath", "error"])
    return [(str(name), str(error)) for name, error in zip(columns["relpath"], columns["error"], strict=True)]
