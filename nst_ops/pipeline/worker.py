"""The worker: read, stylize, encode, commit, for a batch of images or for a film.

One worker per device, and everything a unit needs happens inside it: pixels never travel.
No Ray in here, so that a test or a debugger can call a worker like any function.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from nst_ops.collection.discover import Source
from nst_ops.collection.manifest import SCHEMA, Manifest, Row
from nst_ops.collection.plan import Item, WorkUnit
from nst_ops.config import StylizeConfig
from nst_ops.media.errors import OutputCollisionError, TooLargeError
from nst_ops.media.formats import image_output, likely_output, video_output
from nst_ops.media.images import DecodedImage, UInt8Array, decode_image, encode_image, is_animated
from nst_ops.media.video import (
    AnimationReader,
    Frame,
    VideoReader,
    VideoWriter,
    container_takes,
    count_packets,
)
from nst_ops.pipeline.overlap import Timings, WriteBehind, read_ahead
from nst_ops.storage import Folder, StorageFullError
from nst_ops.stylizers import load_stylizer

Report = Callable[[int, int], None]
"""Called with (items finished, frames stylized) since the last call."""


@dataclass(frozen=True)
class RunSpec:
    """What every worker of a run is told once."""

    config: StylizeConfig
    run_id: str
    style: str
    model: str
    model_sha256: str
    config_sha256: str


@dataclass
class UnitResult:
    """What a worker tells the driver of a unit; the rows themselves are in the manifest."""

    unit_id: str
    timings: Timings = field(default_factory=Timings)
    fatal: str = ""
    """Why the run must stop, if it must: no item's fault."""
    error: str = ""
    """An exception that nothing foresaw; the unit has no rows and may be tried again."""


@dataclass
class _Decoded:
    """An item on its way from the decoder to the network."""

    item: Item
    image: DecodedImage | None
    error: Exception | None
    timings: Timings


class Worker:
    """Stylizes units with one network on one device."""

    def __init__(self, spec: RunSpec, num_threads: int | None = None, report: Report | None = None) -> None:
        self.spec = spec
        self.config = spec.config
        self.source = Source.open(spec.config.input).folder
        self.output = Folder(spec.config.output)
        self.manifest = Manifest(self.output)
        self.report: Report = report or (lambda items, frames: None)
        self.name = f"{platform.node()}:{os.getpid()}"
        model = spec.config.model
        if model.kind != "identity" and num_threads:
            import torch  # an identity run needs none of it

            torch.set_num_threads(num_threads)
        self.stylizer = load_stylizer(model, spec.config.style.alpha)

    def __call__(self, unit: WorkUnit) -> UnitResult:
        """Stylize every item of ``unit`` and commit the rows; bad items become failed rows."""
        result = UnitResult(unit.unit_id)
        try:
            if unit.items[0]["kind"] == "video":
                rows = [self._video_row(unit, item, result.timings) for item in unit.items]
            else:
                rows = self._image_rows(unit, result.timings)
            self.manifest.commit(unit.unit_id, rows)
        except StorageFullError as error:
            result.fatal = str(error)
        except Exception as error:  # a device that fails, or our own mistake: the driver decides
            result.error = f"{type(error).__name__}: {error}"
        return result

    # Images: decoded ahead of the network, encoded behind it, a whole unit long.

    def _image_rows(self, unit: WorkUnit, timings: Timings) -> list[Row]:
        rows: list[Row] = []
        depth = self.config.model.batch_size  # photographs are large: no more of them than the network takes

        def finish(decoded: _Decoded, stylized_hwc: UInt8Array) -> None:
            rows.append(self._write_image(unit, decoded, stylized_hwc))
            self.report(1, 0)

        ahead = contextlib.closing(read_ahead(self._decode_images(unit), depth, timings))
        behind = WriteBehind[tuple[_Decoded, UInt8Array]](lambda pair: finish(*pair), depth, timings)
        with ahead as decoded_items, behind:
            for batch in self._same_size_batches(decoded_items):
                first = batch[0]
                if first.image is None:
                    rows.append(self._without_image(unit, first, timings))
                    self.report(1, 0)
                    continue
                try:
                    started = time.perf_counter()
                    frames = np.stack([decoded.image.rgb_hwc for decoded in batch if decoded.image])
                    stylized_nhwc = self.stylizer(frames)
                except MemoryError as error:
                    too_large = TooLargeError(str(error))
                    rows.extend(
                        self._failed(unit, decoded.item, too_large, decoded.timings) for decoded in batch
                    )
                    self.report(len(batch), 0)
                    continue
                elapsed = time.perf_counter() - started
                timings.stylize_s += elapsed
                for decoded, stylized_hwc in zip(batch, stylized_nhwc, strict=True):
                    decoded.timings.stylize_s = elapsed / len(batch)
                    behind.put((decoded, stylized_hwc))
        return rows

    def _decode_images(self, unit: WorkUnit) -> Iterator[_Decoded]:
        for item in unit.items:
            started = time.perf_counter()
            image, error = None, None
            try:
                data = self.source.read_bytes(item["relpath"])
                if not is_animated(data):
                    image = decode_image(data, self.config.resize.max_side)
            except Exception as caught:  # any bad file becomes a row, never the end of the run
                error = caught
            yield _Decoded(item, image, error, Timings(decode_s=time.perf_counter() - started))

    def _same_size_batches(self, decoded_items: Iterator[_Decoded]) -> Iterator[list[_Decoded]]:
        """Runs of neighbours that the network can take at once; what is no image comes alone."""

        def size(decoded: _Decoded) -> object:
            return decoded.image.rgb_hwc.shape if decoded.image else decoded.item["item_id"]

        for _, run in itertools.groupby(decoded_items, key=size):
            while batch := list(itertools.islice(run, self.config.model.batch_size)):
                yield batch

    def _write_image(self, unit: WorkUnit, decoded: _Decoded, stylized_hwc: UInt8Array) -> Row:
        image, item, timings = decoded.image, decoded.item, decoded.timings
        assert image is not None
        started = time.perf_counter()
        try:
            relpath, image_format = image_output(item["relpath"], has_alpha=image.alpha_hw is not None)
            self._refuse_collision(item, relpath)
            data = encode_image(
                stylized_hwc, image.alpha_hw, image_format, self.config.images.quality, image.exif
            )
            with self.output.atomic_write(relpath) as temporary:
                temporary.write_bytes(data)
        except StorageFullError:
            raise
        except Exception as error:  # a name too long, a format's own limit on size
            return self._failed(unit, item, error, timings)
        timings.encode_s = time.perf_counter() - started
        return self._row(
            unit,
            item,
            timings,
            status="ok",
            output_uri=self.output.uri(relpath),
            output_bytes=len(data),
            output_sha256=hashlib.sha256(data).hexdigest(),
            width=image.source_size[0],
            height=image.source_size[1],
            output_width=stylized_hwc.shape[1],
            output_height=stylized_hwc.shape[0],
            num_frames=1,
        )

    def _without_image(self, unit: WorkUnit, decoded: _Decoded, timings: Timings) -> Row:
        """A file that did not decode is a failed row; an animated one is a film."""
        if decoded.error is not None:
            return self._failed(unit, decoded.item, decoded.error, decoded.timings)
        return self._video_row(unit, {**decoded.item, "kind": "video"}, timings, animated=True)

    # Films: frame by frame through the same three stages.

    def _video_row(self, unit: WorkUnit, item: Item, timings: Timings, animated: bool = False) -> Row:
        own = Timings()
        try:
            with self.source.local_copy(item["relpath"]) as path:
                row = self._stylize_video(unit, item, path, own, animated)
        except StorageFullError:
            raise
        except MemoryError as error:
            row = self._failed(unit, item, TooLargeError(str(error)), own)
        except Exception as error:  # any bad file becomes a row, never the end of the run
            row = self._failed(unit, item, error, own)
        timings.add(own)
        if not animated:
            self.report(1, 0)
        return row

    def _stylize_video(self, unit: WorkUnit, item: Item, path: str, timings: Timings, animated: bool) -> Row:
        video, depth = self.config.video, self.config.workers.queue_frames
        started = time.perf_counter()
        reader: VideoReader | AnimationReader
        if animated:
            reader = AnimationReader(path, self.config.resize.max_side)
        else:
            reader = VideoReader(path, self.config.resize.max_side, video.keep_damaged)
        timings.decode_s += time.perf_counter() - started
        with reader:
            info = reader.info
            relpath, container = video_output(item["relpath"], has_sound=not animated)
            if not container_takes(container, info.audio_codecs):
                relpath, container = video_output(item["relpath"], fits=False)
            self._refuse_collision(item, relpath)
            num_frames = 0
            with self.output.atomic_write(relpath) as temporary:
                writer = VideoWriter(
                    str(temporary),
                    container,
                    info,
                    reader.output_size,
                    None if animated else path,
                    video.crf,
                    video.preset,
                )
                with (
                    writer,
                    contextlib.closing(read_ahead(reader.frames(), depth, timings)) as frames,
                    WriteBehind(writer.write, depth, timings) as behind,
                ):
                    while batch := list(itertools.islice(frames, self.config.model.batch_size)):
                        started = time.perf_counter()
                        stylized_nhwc = self.stylizer(np.stack([frame.rgb_hwc for frame in batch]))
                        timings.stylize_s += time.perf_counter() - started
                        for frame, stylized_hwc in zip(batch, stylized_nhwc, strict=True):
                            behind.put(Frame(frame.pts, frame.duration, stylized_hwc))
                        num_frames += len(batch)
                        self.report(0, len(batch))
                started = time.perf_counter()
                output_bytes, output_sha256 = _check_video(temporary, num_frames)
                timings.encode_s += time.perf_counter() - started
        notes = list(writer.notes)
        if reader.num_damaged:
            notes.append(f"{reader.num_damaged} damaged places")
        return self._row(
            unit,
            item,
            timings,
            status="ok",
            note="; ".join(notes) or None,
            output_uri=self.output.uri(relpath),
            output_bytes=output_bytes,
            output_sha256=output_sha256,
            width=info.width,
            height=info.height,
            output_width=reader.output_size[0],
            output_height=reader.output_size[1],
            num_frames=num_frames,
            frame_rate=float(info.frame_rate),
            duration_s=info.duration_s,
            video_codec=info.video_codec,
            audio_codec=",".join(info.audio_codecs) or None,
        )

    def _refuse_collision(self, item: Item, relpath: str) -> None:
        """Planning sees collisions by name; some outputs get theirs only when the file is open."""
        if relpath != likely_output(item["relpath"]) and self.source.exists(relpath):
            raise OutputCollisionError(f"its output {relpath} belongs to another input: rename one of them")

    # Rows.

    def _failed(self, unit: WorkUnit, item: Item, error: Exception, timings: Timings) -> Row:
        message = str(error).strip() or type(error).__name__
        return self._row(
            unit,
            item,
            timings,
            status="failed",
            error_type=type(error).__name__,
            error_message=message[:2000],
        )

    def _row(self, unit: WorkUnit, item: Item, timings: Timings, **outcome: Any) -> Row:
        row = manifest_row(self.spec, item, **outcome)
        row.update(
            attempts=unit.attempt,
            unit_id=unit.unit_id,
            worker=self.name,
            decode_s=timings.decode_s,
            stylize_s=timings.stylize_s,
            encode_s=timings.encode_s,
        )
        return row


def manifest_row(spec: RunSpec, item: Item, **outcome: Any) -> Row:
    """A manifest row of ``item`` with what is the same for every item of the run."""
    return {
        **dict.fromkeys(SCHEMA.names),
        **{key: item[key] for key in ("item_id", "source_uri", "source_bytes", "source_version", "kind")},
        "style": spec.style,
        "model": spec.model,
        "model_sha256": spec.model_sha256,
        "config_sha256": spec.config_sha256,
        "run_id": spec.run_id,
        "finished_at": datetime.now(UTC),
        **outcome,
    }


def _check_video(path: Path, num_frames: int) -> tuple[int, str]:
    """Size and hash of a finished file, after a look whether every frame is in it."""
    num_packets = count_packets(str(path))
    if num_packets != num_frames:
        raise OSError(f"{num_frames} frames were written, but the output holds {num_packets}")
    with path.open("rb") as file:
        return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()
