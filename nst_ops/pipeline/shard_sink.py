"""From stylized images to samples of a shard, and to their rows."""

from __future__ import annotations

import posixpath
import time
from collections.abc import Mapping, Sequence

from nst_ops.collection.manifest import Row
from nst_ops.collection.units import WorkUnit
from nst_ops.media.errors import MediaError, UnsupportedMediaError
from nst_ops.media.formats import image_output
from nst_ops.media.images import UInt8Array
from nst_ops.media.shards import Sample, StylizedImage
from nst_ops.pipeline.image_task import Task, encode_task, image_outcome
from nst_ops.pipeline.shard_outputs import Output, Place
from nst_ops.pipeline.workbench import Workbench


class ShardSink:
    """Collects the images of each sample, writes it, and keeps their rows.

    A sample is written with those of its images that were stylized; one of which none was, is not.
    """

    def __init__(self, bench: Workbench, unit: WorkUnit, outputs: Mapping[str, Output]) -> None:
        self.rows: list[Row] = []
        self._bench, self._unit, self._outputs = bench, unit, outputs
        self._waiting: dict[str, list[tuple[Task, UInt8Array | None]]] = {style: [] for style in outputs}

    def write(self, task: Task, stylized_hwc: UInt8Array | None) -> None:
        """Take the next image of a style; with the last one of a sample the sample is written."""
        assert task.sample is not None
        waiting = self._waiting[task.style_name]
        waiting.append((task, stylized_hwc))
        if len(waiting) >= len(task.sample.images):
            self._waiting[task.style_name] = []
            self._write_sample(task.sample, waiting)

    def _write_sample(self, sample: Sample, tasks: Sequence[tuple[Task, UInt8Array | None]]) -> None:
        stylized = {}
        for task, stylized_hwc in tasks:
            if task.picture and (image := self._encode(task, stylized_hwc)):
                stylized[task.picture.member] = image
        places: dict[str, Place] = {}
        if stylized or not sample.images:
            try:
                places = self._outputs[tasks[0][0].style_name].write(sample, stylized)
            except MediaError as error:
                for task, _ in tasks:
                    task.error = task.error or error
        for task, stylized_hwc in tasks:
            if task.picture:
                self.rows.append(self._row(task, stylized_hwc, stylized, places))
                self._bench.report(1, 0)

    def _encode(self, task: Task, stylized_hwc: UInt8Array | None) -> StylizedImage | None:
        """The encoded image; None, and the task has its error, where there is none."""
        assert task.picture is not None
        if stylized_hwc is None or task.image is None:
            task.error = task.error or UnsupportedMediaError(
                "an animated image, which becomes a film: give it as a file, with --shards.format files"
            )
            return None
        started = time.perf_counter()
        name = task.picture.name
        path, image_format = image_output(name, has_alpha=task.image.alpha_hw is not None)
        try:
            data = encode_task(self._bench, task, stylized_hwc, image_format)
        except Exception as error:  # a format's own limit on size
            task.error = error
            return None
        task.timings.encode_s = time.perf_counter() - started
        # In a sample the extension says what a file is: it is replaced, not appended.
        return StylizedImage(name if path == name else posixpath.splitext(name)[0] + ".png", data)

    def _row(
        self,
        task: Task,
        stylized_hwc: UInt8Array | None,
        stylized: Mapping[str, StylizedImage],
        places: Mapping[str, Place],
    ) -> Row:
        bench, unit, timings = self._bench, self._unit, task.timings
        if task.error is not None:
            return bench.failed(unit, task.item, task.style_name, task.error, timings)
        assert task.picture is not None
        assert stylized_hwc is not None
        uri, member = places[task.picture.member]
        outcome = image_outcome(task, stylized_hwc, stylized[task.picture.member].data)
        return bench.row(
            unit, task.item, task.style_name, timings, output_uri=uri, output_member=member, **outcome
        )
