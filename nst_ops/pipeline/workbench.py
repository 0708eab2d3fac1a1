"""What a worker works with: folders, network and style pictures, and how a row is written."""

from __future__ import annotations

import functools
import os
import platform
from collections.abc import Sequence

import cv2
import numpy as np

from nst_ops.collection.manifest import Manifest, Row
from nst_ops.collection.units import Item, WorkUnit
from nst_ops.config import ConfigError
from nst_ops.media.errors import OutputCollisionError, UnreadableImageError
from nst_ops.media.formats import likely_output
from nst_ops.media.images import UInt8Array
from nst_ops.media.video.segments import Selection
from nst_ops.pipeline.meter import Meter
from nst_ops.pipeline.overlap import Timings
from nst_ops.pipeline.spec import RunSpec, manifest_row
from nst_ops.storage import Folder, configure_storage
from nst_ops.stylizers import Style, Stylizer, load_stylizer
from nst_ops.stylizers.preserve_color import keep_colors
from nst_ops.temporal.smoothing import Smoother, load_smoother

_WARM_SIDE = 256
"""Pixels of a frame that only warms the network."""
_STYLES_KEPT = 256
"""Decoded style pictures in memory, about 1 MiB each at style.side 512."""


class Workbench:
    """What every unit of a worker is done with.

    Args:
        spec: of the run.
        num_threads: CPU threads of the network; None leaves them to torch.
        meter: counts every step forward.
    """

    def __init__(self, spec: RunSpec, num_threads: int | None = None, meter: Meter | None = None) -> None:
        configure_storage(spec.config.storage)
        self.spec = spec
        self.config = spec.config
        self.source = Folder(spec.source_root)
        self.output = Folder(spec.config.output)
        self.manifest = Manifest(self.output)
        self.meter = meter or Meter()
        self.report = self.meter.add
        self.name = f"{platform.node()}:{os.getpid()}"
        model = spec.config.model
        if model.kind != "identity" and num_threads:
            import torch  # an identity run needs none of it

            torch.set_num_threads(num_threads)
            cv2.setNumThreads(num_threads)  # smoothing comes out the same with any number
        self.stylizer = load_stylizer(model, spec.config.style.alpha)
        self.read_style = functools.lru_cache(_STYLES_KEPT)(self._read_style)

    def warm_up(self) -> None:
        """Run the network once: what only the first call costs is not to count as a unit's."""
        if self.config.model.kind in ("identity", "gatys"):  # the one has none, the other runs for seconds
            return
        frames_nhwc = np.zeros((self.config.model.batch_size, _WARM_SIDE, _WARM_SIDE, 3), np.uint8)
        self.paint(frames_nhwc, [Style("", frame_hwc) for frame_hwc in frames_nhwc])

    def _read_style(self, name: str) -> Style | None:
        """A style by name; None for a network that has its own.

        Raises:
            UnreadableImageError: its picture cannot be read.
        """
        if self.spec.pictures is None:
            return None
        try:
            return self.spec.pictures.read(name)
        except ConfigError as error:  # the run looked at a few; this is another
            raise UnreadableImageError(str(error)) from error

    def paint(
        self, frames_nhwc: UInt8Array, styles: Sequence[Style | None], stylizer: Stylizer | None = None
    ) -> UInt8Array:
        """Stylize frames, each in its style, by the worker's own stylizer or another one of its kind."""
        stylized_nhwc = (stylizer or self.stylizer)(frames_nhwc, [style for style in styles if style])
        if self.config.style.preserve_color:
            return keep_colors(stylized_nhwc, frames_nhwc)
        return stylized_nhwc

    def smoother(self) -> Smoother:
        """Made anew for every film, which it holds in memory for a few frames."""
        temporal = self.config.temporal
        if self.config.model.kind == "identity":  # nothing flickers, and what goes in is to come out
            temporal = temporal.model_copy(update={"mode": "none"})
        return load_smoother(temporal, self.config.model.device)

    @property
    def selection(self) -> Selection:
        """What of every video is stylized."""
        video = self.config.video
        return Selection(video.start_s, video.duration_s, video.max_frame_rate)

    def place(self, item: Item, style: str, relpath: str) -> str:
        """Where the output ``relpath`` of an item lies.

        Raises:
            OutputCollisionError: planning sees collisions by name; some outputs get theirs only when
                the file is open.
        """
        likely = likely_output(item["relpath"], self.config.video.container, self.config.shards.format)
        if relpath != likely and self.source.exists(relpath):
            raise OutputCollisionError(f"its output {relpath} belongs to another input: rename one of them")
        return self.spec.choice.output(style, relpath)

    def failed(self, unit: WorkUnit, item: Item, style: str, error: Exception, timings: Timings) -> Row:
        """The row of an item that could not be stylized."""
        message = str(error).strip() or type(error).__name__
        return self.row(
            unit,
            item,
            style,
            timings,
            status="failed",
            error_type=type(error).__name__,
            error_message=message[:2000],
        )

    def row(self, unit: WorkUnit, item: Item, style: str, timings: Timings, **outcome: object) -> Row:
        """The row of an item in a style."""
        return manifest_row(
            self.spec,
            item,
            style,
            **outcome,
            attempts=unit.attempt,
            unit_id=unit.part,
            worker=self.name,
            decode_s=timings.decode_s,
            stylize_s=timings.stylize_s,
            smooth_s=timings.smooth_s,
            encode_s=timings.encode_s,
        )
