"""The context of a worker: folders, network and style images, where outputs lie and how a row is written."""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import os
import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import cv2
import numpy as np

from nst_ops.collection.manifest import Manifest, Row
from nst_ops.collection.units import Item, WorkUnit
from nst_ops.config import ConfigError
from nst_ops.media.errors import OutputCollisionError, TooLargeError, UnreadableImageError
from nst_ops.media.formats import likely_output
from nst_ops.media.images import UInt8Array, limit_megapixels
from nst_ops.media.video.container import limit_frame_megapixels
from nst_ops.media.video.segments import Selection
from nst_ops.pipeline.prefetch import Timings, map_threads
from nst_ops.pipeline.run_spec import RunSpec, manifest_row
from nst_ops.pipeline.telemetry import Telemetry
from nst_ops.storage import Folder, StorageError, configure_storage
from nst_ops.stylizers import Style, Stylizer
from nst_ops.stylizers.preserve_color import keep_colors
from nst_ops.stylizers.working_size import at_full_size, at_working_size, blend, working_size
from nst_ops.temporal.smoothing import Smoother, load_smoother

if TYPE_CHECKING:
    from nst_ops.pipeline.device_frames import DeviceFrames

T = TypeVar("T")
R = TypeVar("R")

_WARM_UP_SIDE = 256  # pixels of a frame that only warms the network up
_DEVICE_LOST = ("CUDA error:", "_STATUS_EXECUTION_FAILED", "_STATUS_INTERNAL_ERROR", "_STATUS_MAPPING_ERROR")
_BATCH_SIZE, _MOST_AT_ONCE, _PIXELS_AT_ONCE = 4, 64, 1920 * 1080  # of frames; the last two fill a GPU
_STYLES_KEPT = 256  # decoded style images in memory, about 1 MiB each at style.side 512


Pixels = Any
"""Frames, uint8 (N, H, W, 3): an array of the host, or a tensor on the device of ``WorkerContext.device_frames``."""


class HasError(Protocol):
    """An item on its way through the stages."""

    error: Exception | None


def device_is_lost(error: BaseException) -> bool:
    """Return whether an error of the GPU, of torch, cuDNN or cuBLAS, leaves it beyond use for this process.

    Whatever the process does there next fails with the same error, within milliseconds.
    """
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _DEVICE_LOST)


@contextlib.contextmanager
def failing(*items: HasError, only: type[Exception] | tuple[type[Exception], ...] = Exception) -> Iterator[None]:
    """Let an error in here fail these items; raises what is no item's fault: a StorageError, and the loss of a GPU."""
    try:
        yield
    except StorageError:
        raise
    except only as error:  # any bad file becomes a row, never the end of the run
        if device_is_lost(error):
            raise
        reason = TooLargeError(str(error)) if isinstance(error, MemoryError) else error
        for item in items:
            item.error = item.error or reason


class WorkerContext:
    """Everything that the units of a worker are done with.

    Args:
        run_spec: what the workers share.
        num_threads: threads of the network; None leaves them to torch.
        telemetry: of the worker's process.
        frames_on_device: whether frames of videos stay on the network's device until they are encoded; None: if that is
            a GPU.
    """

    def __init__(
        self,
        run_spec: RunSpec,
        num_threads: int | None = None,
        telemetry: Telemetry | None = None,
        frames_on_device: bool | None = None,
    ) -> None:
        configure_storage(run_spec.config.storage)
        limit_megapixels(run_spec.config.images.max_megapixels)
        limit_frame_megapixels(run_spec.config.video.max_megapixels)
        self.run_spec = run_spec
        self.config = run_spec.config
        self.source = Folder(run_spec.source_root)
        self.output = Folder(run_spec.config.output)
        self.manifest = Manifest(self.output)
        self.telemetry = telemetry or Telemetry()
        self.name = f"{platform.node()}:{os.getpid()}"
        self.num_threads = num_threads or 1
        if run_spec.kind.uses_device:
            import torch  # an identity run needs none of it

            self.num_threads = num_threads or torch.get_num_threads()
            torch.set_num_threads(self.num_threads)
        self.stylizer = run_spec.kind.load(run_spec.config.model, run_spec.config.style.alpha)
        self.device: str | None = None
        self.precision: str | None = None
        self.on_gpu = False
        self.device_frames: DeviceFrames | None = None  # None: frames of videos stay on the host
        if run_spec.kind.uses_device:
            from nst_ops.stylizers.device import describe, device_of

            self.device, self.precision = describe(self.stylizer)
            device = device_of(self.stylizer)
            self.on_gpu = device is not None and device.type == "cuda"
            if device and (self.on_gpu if frames_on_device is None else frames_on_device):
                from nst_ops.pipeline.device_frames import DeviceFrames

                self.device_frames = DeviceFrames(device)
            # Smoothing comes out the same with any number. Beside a network that has the cores, threads of its own take
            # a third more of them, for nothing.
            cv2.setNumThreads(1 if self.device == "cpu" else self.num_threads)
        elif run_spec.kind.one_thread_pixels:
            cv2.setNumThreads(1)
        self._read_style = functools.lru_cache(_STYLES_KEPT)(self._read_style_image)

    def warm_up(self) -> None:
        """Run the network on one small frame: what only the first call costs is not to count as a unit's."""
        if self.run_spec.kind.warms_up:
            frame_hwc, named = np.zeros((_WARM_UP_SIDE, _WARM_UP_SIDE, 3), np.uint8), self.run_spec.named_styles
            style = named.style(named.names[0], {"relpath": ""}) if named else Style("", frame_hwc)
            self.stylize(frame_hwc[None], [style], Timings())

    def style(self, item: Item, name: str) -> Style | None:
        """Return the style of an item by its name; None for a network that has its own.

        Raises UnreadableImageError for a style image that cannot be read.
        """
        if self.run_spec.named_styles:
            return self.run_spec.named_styles.style(name, item)
        return self._read_style(name) if self.run_spec.style_images else None

    def _read_style_image(self, name: str) -> Style:
        assert self.run_spec.style_images
        try:
            return self.run_spec.style_images.read(name)
        except ConfigError as error:  # the run looked at a few; this is another
            raise UnreadableImageError(
                f"{error}; with another style image take another output, or --overwrite"
            ) from error

    def stylize(
        self, frames_nhwc: Pixels, styles: Sequence[Style | None], timings: Timings, stylizer: Stylizer | None = None
    ) -> Pixels:
        """Stylize frames, each in its style, by the worker's own stylizer or another one of its kind.

        Those of ``device_frames`` are stylized there, or by way of the host where the stylizer takes no tensors.
        ``timings.stylize_s`` counts the seconds of the worker: where frames of this size are stylized side by side, it
        is this call's share of them.
        """
        stylizer, config = stylizer or self.stylizer, self.config.style
        device_frames = None if isinstance(frames_nhwc, np.ndarray) else self.device_frames
        stays_as_it_comes = not config.preserve_color and config.stroke is None and config.strength == 1
        if device_frames and not (stays_as_it_comes and getattr(stylizer, "takes_tensors", False)):
            on_host = self.stylize(device_frames.down(frames_nhwc), styles, timings, stylizer)
            stylized_nhwc: Pixels = device_frames.up(on_host)
            device_frames.wait()  # smoothing begins on another stream
            return stylized_nhwc
        size = frames_nhwc.shape[1:3]
        with timings.busy("stylize_s", self._at_once(*size)), self.telemetry.stylizing(), self.threads_for(*size):
            small_nhwc = at_working_size(frames_nhwc, config.stroke)
            stylized_nhwc = stylizer(small_nhwc, [style for style in styles if style])
            if device_frames:
                device_frames.wait()  # for smoothing, on another stream; and the time is that of the work
            stylized_nhwc = at_full_size(stylized_nhwc, small_nhwc, frames_nhwc)
            if config.preserve_color:
                stylized_nhwc = keep_colors(stylized_nhwc, frames_nhwc)
            return blend(stylized_nhwc, frames_nhwc, config.strength)

    def freeze(self, samples_nhwc: UInt8Array, style: Style | None) -> Stylizer:
        """Return a stylizer that normalizes all frames by the statistics of these samples; of a kind that can."""
        stylizer: Any = self.stylizer
        with self.threads_for(*samples_nhwc.shape[1:3]):
            statistics = stylizer.measure(at_working_size(samples_nhwc, self.config.style.stroke), style)
        frozen: Stylizer = stylizer.frozen(statistics)
        return frozen

    def stylize_in_order(
        self,
        stylize: Callable[[T], R],
        batches: Iterable[T],
        size: Callable[[T], tuple[int, int]],
        num_bytes: Callable[[T], int] = lambda batch: 0,
    ) -> Iterator[R]:
        """Call ``stylize`` on batches of frames of a ``size``, height and width; yield the results in their order.

        Frames that take one thread are stylized side by side, in threads of their own; before any other the last of
        them has ended, so that the cores never have more than one set of threads. An exception is raised here.
        """
        for is_single, run in itertools.groupby(batches, key=lambda batch: self._is_single(*size(batch))):
            if is_single:
                count = self.num_threads
                yield from map_threads(stylize, run, count, Timings(), num_threads=count, num_bytes=num_bytes)
            else:
                yield from map(stylize, run)

    def batch_size(self, height: int, width: int) -> int:
        """Return how many frames of this size at most are stylized in one call."""
        # without a device a batch gains nothing, and costs a copy of each frame
        if self._is_single(height, width) or not self.run_spec.kind.uses_device:
            return 1
        fills_gpu = min(_MOST_AT_ONCE, _PIXELS_AT_ONCE // max(1, height * width)) if self.on_gpu else 0
        return self.config.model.batch_size or max(_BATCH_SIZE, fills_gpu)

    @property
    def images_ahead(self) -> int:
        """How many images are read ahead of the network, and wait behind it."""
        return self.config.model.batch_size or (_MOST_AT_ONCE if self.on_gpu else _BATCH_SIZE)

    @contextlib.contextmanager
    def threads_for(self, height: int, width: int) -> Iterator[None]:
        """Give torch, as called from this thread in here, the threads that frames of this size take on a CPU."""
        if self.run_spec.kind.one_thread_pixels and self.device == "cpu":
            import torch

            count = 1 if self._is_single(height, width) else self.num_threads
            if torch.get_num_threads() != count:  # of this thread: each has a number of its own
                torch.set_num_threads(count)
        yield

    def _is_single(self, height: int, width: int) -> bool:
        """Return whether a frame of this size takes one thread.

        By nothing but its size: the number of threads changes the rounding, and a frame is to come out the same
        wherever, and beside whatever, it is stylized.
        """
        num_pixels = math.prod(working_size(height, width, self.config.style.stroke))
        return self.device in ("cpu", None) and num_pixels <= self.run_spec.kind.one_thread_pixels

    def _at_once(self, height: int, width: int) -> int:
        """Return how many frames of this size are stylized side by side."""
        return self.num_threads if self._is_single(height, width) else 1

    def new_smoother(self) -> Smoother:
        """Make a smoother for one video, of which it holds a few frames in memory."""
        temporal = self.config.temporal
        if not self.run_spec.kind.smooths:  # nothing flickers, and what goes in is to come out
            temporal = temporal.model_copy(update={"mode": "none"})
        return load_smoother(temporal, self.config.model.device)

    @property
    def selection(self) -> Selection:
        """The part of every video that is stylized."""
        video = self.config.video
        return Selection(video.start_s, video.duration_s, video.max_frame_rate)

    def output_path(self, item: Item, style: str, relpath: str) -> str:
        """Return where an output of this name lies in a style.

        OutputCollisionError if it was only known with the file open, and belongs to another.
        """
        container, shards = self.config.video.container, self.config.shards.format
        likely = likely_output(item["relpath"], container, shards, item["kind"])
        if relpath != likely and self.source.exists(relpath):
            raise OutputCollisionError(f"its output {relpath} belongs to another input: rename one of them")
        return self.run_spec.choice.output(style, self.run_spec.names.path(relpath))

    def row(
        self, unit: WorkUnit, item: Item, style: str, timings: Timings, error: Exception | None, **outcome: object
    ) -> Row:
        """Make the row of an item in a style by its outcome, or by the error that has failed it."""
        if error:
            name = type(error).__name__
            message = str(error).strip() or name
            if isinstance(error, PermissionError):  # a file looks the same to the plan once it may be read
                message += "; then run the same command again with --retry-failed"
            outcome = {"status": "failed", "error_type": name, "error_message": message[:2000]}
        seconds = asdict(timings)
        del seconds["wait_s"]
        work = {"attempts": unit.attempt, "unit_id": unit.part, "worker": self.name}
        work |= {"device": self.device, "precision": self.precision, **seconds}
        return manifest_row(self.run_spec, item, style, **outcome, **work)
