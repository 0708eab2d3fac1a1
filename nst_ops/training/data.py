"""Training data: content and style images, read once, cropped anew for each step. No Ray in here."""

import logging
import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import psutil
import torch
import torch.nn.functional as F
from PIL import Image
from rich.console import Console
from rich.progress import track
from torch import Tensor

from nst_ops.config import ConfigError, TrainingConfig
from nst_ops.media.errors import MediaError
from nst_ops.media.formats import media_kind
from nst_ops.media.images import UInt8Array, decode_image
from nst_ops.models.host_copies import host_copies
from nst_ops.ray_cluster import cores_per_node
from nst_ops.storage import Folder

IntArray = npt.NDArray[np.int64]
Place = tuple[int, int]  # block of an image and its row in it
Role = Literal["content", "style"]  # what the images of a folder are for

_log = logging.getLogger(__name__)

_SMALLEST_STYLE = 64  # pixels of a style image's shorter side below which there is no brush stroke to learn, only blur
PER_BLOCK = 64  # images decoded together
_NAMED = 5  # unreadable files that are named
_SHARE_OF_MEMORY = 0.8
ROW_STREAM = 6  # of random numbers: the order of the rows of a network of many styles
_CONTENT_STREAM, _STYLE_STREAM, _ZOOM_STREAM = 0, 2, 4  # of random numbers; images have two each, for order and crops


def read_style_image(uri: str, short_side: int, margin: float = 0.0, key: str = "style") -> UInt8Array:
    """Read a style image, upright sRGB, transparent parts on white: uint8 (H, W, 3), the shorter side ``short_side``.

    ``margin`` is the share of each side to cut off first, such as bare canvas; messages begin with ``key``. Raises
    ConfigError if the image cannot be read, is transparent all over, or is too small to show a style.
    """
    try:
        folder = Folder(os.path.dirname(uri) or ".")
        decoded = decode_image(folder.read_bytes(os.path.basename(uri)))
    except (FileNotFoundError, IsADirectoryError) as error:
        raise ConfigError(f"{key}: there is no file '{uri}'") from error
    except (MediaError, OSError, ValueError) as error:
        raise ConfigError(f"{key}: '{uri}' cannot be read: {error}") from error
    image = Image.fromarray(decoded.rgb_hwc)
    if decoded.alpha_hw is not None and decoded.alpha_hw.max() == 0:
        raise ConfigError(f"{key}: '{uri}' is transparent all over, which shows no style: save it without transparency")
    if decoded.alpha_hw is not None and decoded.alpha_hw.min() < 255:
        _log.info("%s: '%s' is transparent in parts, they are taken as white", key, uri)
        image = Image.composite(image, Image.new("RGB", image.size, "white"), Image.fromarray(decoded.alpha_hw))
    if np.ptp(decoded.rgb_hwc, axis=2).max() == 0:
        _log.info("%s: '%s' is gray, so stylized images will be gray", key, uri)
    left, top = round(image.width * margin), round(image.height * margin)
    image = image.crop((left, top, image.width - left, image.height - top))
    if min(image.size) < _SMALLEST_STYLE:
        size, remedy = f"{image.width}x{image.height} px", f"give a scan of at least {_SMALLEST_STYLE} px"
        shown = f"{key}: '{uri}' is {size} without its margin, too small to show a style"
        raise ConfigError(f"{shown}: {remedy}, better {short_side}")
    scale = short_side / min(image.size)
    if scale > 2:
        _log.info("%s: '%s' is enlarged %.1f times: strokes will be soft", key, uri, scale)
    width, height = (max(short_side, round(side * scale)) for side in image.size)
    return np.asarray(image.resize((width, height), Image.Resampling.LANCZOS))


def square(pixels_hwc: UInt8Array, side: int) -> UInt8Array:
    """Return the middle square of an image, resized to ``side``: uint8 (side, side, 3)."""
    height, width = pixels_hwc.shape[:2]
    short = min(height, width)
    left, top = (width - short) // 2, (height - short) // 2
    image, box = Image.fromarray(pixels_hwc), (left, top, left + short, top + short)
    return np.asarray(image.resize((side, side), Image.Resampling.LANCZOS, box=box, reducing_gap=3.0))


def to_tensor(pixels: UInt8Array, stride: int = 1) -> Tensor:
    """Convert uint8 (N, H, W, 3) or (H, W, 3) to float (N, 3, H', W') in [0, 1], cut to multiples of ``stride``."""
    pixels = pixels if pixels.ndim == 4 else pixels[None]
    height, width = (side // stride * stride for side in pixels.shape[1:3])
    return torch.from_numpy(pixels[:, :height, :width].copy()).permute(0, 3, 1, 2).float().div_(255.0)


def hold_out(places: Sequence[Place], count: int) -> tuple[list[Place], list[Place]]:
    """Split images into those to train on and ``count``, a tenth at most and spread evenly, for validation.

    Of fewer than ten, none is spared: the first four serve for both.
    """
    count = min(count, len(places) // 10)
    if not count:
        return list(places), list(places[:4])
    held_out = {round((i + 0.5) * len(places) / count) for i in range(count)}
    return [p for i, p in enumerate(places) if i not in held_out], [places[i] for i in sorted(held_out)]


@dataclass(frozen=True)
class ImageSet:
    """Square images in blocks, of which only the rows in ``places`` are used."""

    blocks: Sequence[UInt8Array]  # (N, S, S, 3) RGB each, all of one side S; may lie in shared memory
    places: Sequence[Place]

    def __len__(self) -> int:
        return len(self.places)

    @property
    def side(self) -> int:
        """Pixels of an image's side."""
        return int(self.blocks[0].shape[1])

    def take(self, indices: Iterable[int]) -> UInt8Array:
        """Return copies of some images: uint8 (B, S, S, 3)."""
        return np.stack([self.blocks[block][row] for block, row in (self.places[i] for i in indices)])

    def all(self) -> UInt8Array:
        """Return copies of all images: uint8 (N, S, S, 3)."""
        return self.take(range(len(self)))


@dataclass(frozen=True)
class StoredImages:
    """All images of a folder, split for training and validation."""

    blocks: list[Any]  # uint8 (N, S, S, 3) each; on their way to workers of Ray, references to the object store
    trained: list[Place]
    held_out: list[Place]
    skipped: dict[str, str]  # files that could not be read, with the reason

    def split(self) -> tuple[ImageSet, ImageSet]:
        """Return the images to train on and those for validation."""
        return ImageSet(self.blocks, self.trained), ImageSet(self.blocks, self.held_out)


def list_images(config: TrainingConfig, role: Role) -> list[str]:
    """List the relative paths of the images to use, sorted; of too many a random sample. Raises ConfigError if none."""
    folder = image_folder(config, role)
    if not folder.exists():
        raise ConfigError(f"data.{role}: there is no folder '{folder.uri()}'")
    names = sorted(file.relpath for file in folder.files() if media_kind(file.relpath) == "image")
    if not names:
        raise ConfigError(f"data.{role}: no images in '{folder.uri()}'")
    if len(names) > config.data.limit:
        _log.info("taking %d of %d %s images (data.limit)", config.data.limit, len(names), role)
        chosen = np.random.default_rng(config.train.seed).choice(names, config.data.limit, replace=False)
        names = sorted(chosen.tolist())
    return names


def image_folder(config: TrainingConfig, role: Role) -> Folder:
    """Return the folder of the content or style images."""
    uri = config.data.content if role == "content" else config.data.style
    assert uri, f"data.{role} is not given"
    return Folder(uri)


def side_of(config: TrainingConfig, role: Role) -> int:
    """Return the side in pixels at which the content or style images are kept."""
    return config.resize if role == "content" else config.style_resize


def ingest(config: TrainingConfig, names: list[str], role: Role) -> StoredImages:
    """Decode and resize the images ``names`` into the memory of this process.

    Images that cannot be read are skipped, counted and named: one bad file should neither end a training run nor go
    unnoticed. Raises ConfigError for fewer readable images than a batch needs, or more than the memory holds.
    """
    side = side_of(config, role)
    memory = psutil.virtual_memory().available
    refuse_too_many(len(names), side, role, memory, "this machine has {} free: take --data.limit {}")
    chunks = [names[start : start + PER_BLOCK] for start in range(0, len(names), PER_BLOCK)]
    decode = partial(decode_squares, uri=image_folder(config, role).uri(), side=side)
    with ThreadPoolExecutor(cores_per_node(), thread_name_prefix="decode") as pool:
        decoded = pool.map(lambda chunk: decode({"relpath": chunk}), chunks)
        batches = list(show_decoding(decoded, role, len(chunks)))
    outcomes = [list(zip(batch["relpath"], batch["error"], strict=True)) for batch in batches]
    return store(config, role, [batch["pixels"] for batch in batches], outcomes)


def refuse_too_many(count: int, side: int, role: Role, memory: float, remedy: str) -> None:
    """Raise ConfigError if ``memory`` bytes hold fewer images; ``remedy`` has places for that and for how many fit."""
    per_image = 3 * side * side
    room = int(_SHARE_OF_MEMORY * memory / per_image)
    if count > room:
        needed = f"data.{role}: {count} {role} images of {side} px take {count * per_image / 1e9:.1f} GB"
        raise ConfigError(f"{needed}, {remedy.format(f'{memory / 1e9:.1f} GB', room)}")


def show_decoding(decoded: Iterable[Any], role: Role, count: int) -> Iterable[Any]:
    """Pass ``count`` blocks through, with a progress bar on a terminal."""
    console = Console(stderr=True)
    hidden = not console.is_terminal
    return track(decoded, f"decoding {role} images", count, console=console, disable=hidden, transient=True)


def decode_squares(batch: dict[str, Any], uri: str, side: int) -> dict[str, Any]:
    """Decode ``batch["relpath"]`` of folder ``uri``: ``pixels``, uint8 (N, side, side, 3), and ``error`` or ""."""
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


def store(
    config: TrainingConfig, role: Role, blocks: list[Any], outcomes: Sequence[Sequence[tuple[str, str]]]
) -> StoredImages:
    """Split decoded images by ``outcomes``, (relpath, error) of each row of each block; name skipped files.

    Raises ConfigError for fewer readable images than a batch needs.
    """
    rows = [((block, row), *result) for block, outcome in enumerate(outcomes) for row, result in enumerate(outcome)]
    rows.sort(key=lambda item: item[1])  # Ray's blocks come in any order, training should not depend on it
    places = [place for place, _, error in rows if not error]
    skipped = {name: error for _, name, error in rows if error}
    for name, error in list(skipped.items())[:_NAMED]:
        _log.warning("skipped %s: %s", name, error)
    if len(skipped) > _NAMED:
        _log.warning("... and %d more", len(skipped) - _NAMED)
    _log.info("%d %s images in memory, %d files skipped", len(places), role, len(skipped))
    if not places:
        raise ConfigError(f"data.{role}: none of the {len(rows)} {role} images can be read")
    if len(places) < config.train.batch_size and role == "content":
        remedy = f"add some, or take --train.batch_size {len(places)}"
        raise ConfigError(f"data.content: {len(places)} readable images are fewer than a batch: {remedy}")
    return StoredImages(blocks, *hold_out(places, config.data.held_out), skipped)


@dataclass(frozen=True)
class Crops:
    """Whole images and where to crop them: the cropping is the device's work."""

    images: Tensor  # uint8 (B, S, S, 3)
    top: Tensor  # int64 (B,), upper left corners in pixels
    left: Tensor
    mirrored: Tensor  # bool (B,)
    size: int  # side of the crops
    side: int  # side to which the images are resized before they are cropped

    def to(self, device: torch.device) -> Self:
        """Copy to ``device``, beside what it does."""
        if device.type == "cpu":
            return self
        tensors = (self.images, self.top, self.left, self.mirrored)
        images, top, left, mirrored = (host_copies(device).up(part.numpy()) for part in tensors)
        return replace(self, images=images, top=top, left=left, mirrored=mirrored)

    def whole(self) -> Tensor:
        """Return the images before they are cropped: float (B, 3, side, side) in [0, 1]."""
        whole = self.images.permute(0, 3, 1, 2).float().div_(255.0)
        if self.side == whole.shape[-1]:
            return whole
        return F.interpolate(whole, self.side, mode="bicubic", antialias=True).clamp_(0, 1)

    def cut(self, whole: Tensor | None = None) -> Tensor:
        """Return (B, 3, size, size) in [0, 1], channels-last, of the images, or of ``whole`` (B, 3, side, side)."""
        if whole is None and self.side != self.images.shape[1]:
            whole = self.whole()
        span = torch.arange(self.size, device=self.images.device)
        rows = self.top[:, None] + span
        columns = self.left[:, None] + torch.where(self.mirrored[:, None], span.flip(0), span)
        image = torch.arange(len(self.images), device=self.images.device)
        at = (image[:, None, None], rows[:, :, None], columns[:, None, :])
        if whole is not None:
            return whole.permute(0, 2, 3, 1)[at].permute(0, 3, 1, 2)
        return self.images[at].permute(0, 3, 1, 2).float().div_(255.0)  # bytes are a quarter to move


Batch = tuple[Crops, Crops | None]  # crops that a worker takes at a step: of content, and of style images if any


def shuffled(seed: int, stream: int, count: int, step: int, batch_size: int) -> IntArray:
    """Return which of ``count`` things step ``step``, from 1, takes: every one comes once before any comes again."""
    epochs, places = np.divmod(np.arange((step - 1) * batch_size, step * batch_size), count)
    return np.array([_order(seed, stream, count, int(e))[p] for e, p in zip(epochs, places, strict=True)])


@lru_cache(maxsize=8)
def _order(seed: int, stream: int, count: int, epoch: int) -> IntArray:
    return np.random.default_rng([seed, stream, epoch]).permutation(count)


@dataclass(eq=False)
class Batches:
    """Crops of each step."""

    content: ImageSet  # every one comes once before any comes again
    batch_size: int  # images of all workers together
    image_size: int  # side of the crops in pixels
    seed: int  # seed of order, crops and mirroring
    rank: int = 0  # which worker this is; it gets every ``world``-th image of a batch
    world: int = 1  # how many workers there are; divides ``batch_size``
    styles: ImageSet | None = None  # a step takes as many of them, drawn in an order of their own
    zoom: tuple[float, float] = (1.0, 1.0)  # range of the factor by which a step resizes content before it is cropped

    def __post_init__(self) -> None:
        self._share = slice(self.rank, None, self.world)

    def __call__(self, step: int) -> Batch:
        """Return this worker's share of the batch of ``step``, counted from 1."""
        zoom = np.random.default_rng([self.seed, _ZOOM_STREAM, step]).uniform(*self.zoom)
        side = max(self.image_size, round(zoom * self.content.side))
        content = self._crops(self.content, step, _CONTENT_STREAM, side)
        return content, self._crops(self.styles, step, _STYLE_STREAM, self.styles.side) if self.styles else None

    def _crops(self, images: ImageSet, step: int, stream: int, side: int) -> Crops:
        rng = np.random.default_rng([self.seed, stream + 1, step])
        corners = rng.integers(side - self.image_size + 1, size=(2, self.batch_size))
        mirrored = rng.random(self.batch_size) < 0.5
        top, left = (torch.from_numpy(corner[self._share].copy()) for corner in corners)
        taken = torch.from_numpy(
            images.take(shuffled(self.seed, stream, len(images), step, self.batch_size)[self._share])
        )
        return Crops(taken, top, left, torch.from_numpy(mirrored[self._share].copy()), self.image_size, side)


class Prefetcher:
    """Batches of one step after the other; a thread readies the next one meanwhile."""

    def __init__(self, batches: Batches, device: torch.device, first: int) -> None:
        self.batches, self.device, self.step = batches, device, first
        self.wait_s = 0.0
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._next: Future[Batch] = self._pool.submit(self._load, first)

    def _load(self, step: int) -> Batch:
        content, styles = self.batches(step)
        return content.to(self.device), styles.to(self.device) if styles else None

    def __call__(self) -> Batch:
        """Return the batch of the next step on the device; the wait for it is added to ``wait_s``."""
        started = time.perf_counter()
        batch = self._next.result()
        self.wait_s += time.perf_counter() - started
        self.step += 1
        self._next = self._pool.submit(self._load, self.step)
        return batch

    def close(self) -> None:
        """Stop the thread."""
        self._pool.shutdown(cancel_futures=True)
