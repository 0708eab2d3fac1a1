"""Opening a finished run and writing what an evaluation found; shared by images and videos."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

from nst_ops.collection.integrity import run_config
from nst_ops.collection.manifest import Manifest
from nst_ops.config import ConfigError, EvaluateConfig
from nst_ops.config.stylize import StyleConfig
from nst_ops.evaluation.evaluator import load_vgg
from nst_ops.media.errors import MediaError
from nst_ops.media.images import decode_image
from nst_ops.media.style_images import Style, StyleImages
from nst_ops.models.checkpoint_files import read_styles, resolve_checkpoint
from nst_ops.models.device import find_device
from nst_ops.models.vgg import VGGFeatures
from nst_ops.storage import Folder, folder_and_name

PAGE, SUMMARY = "index.html", "summary.json"
SMALLEST_STYLE, _LARGEST_STYLE = 32, 512

T = TypeVar("T")
Results = TypeVar("Results")
Row = dict[str, Any]


@dataclass(frozen=True)
class Outcome(Generic[Results]):
    """The end of an evaluation: the figures, and as tables for a terminal."""

    results: Results
    tables: list[Table]
    page: str  # URI
    unreadable: dict[str, str]  # reasons, by source

    @property
    def exit_code(self) -> int:
        """0 if everything was evaluated, 3 if some files could not be read."""
        return 3 if self.unreadable else 0


@dataclass(frozen=True)
class FinishedRun:
    """A run to evaluate, and what that takes."""

    config: EvaluateConfig
    folder: Folder  # output of the run
    manifest: pa.Table
    output: Folder  # where results are written
    device: torch.device
    vgg: VGGFeatures | None  # None if no weights can be had
    missing: dict[str, str]  # reasons why taps are not served, by tap

    @classmethod
    def open(cls, config: EvaluateConfig, taps: Iterable[str]) -> FinishedRun:
        """Open ``config.run``, writing nothing; raises ConfigError for no such run, weights, tap or device."""
        try:
            device = find_device(config.device)
        except ValueError as error:
            raise ConfigError(f"device: {error}") from error
        try:
            folder, output = Folder(config.run), Folder(config.output)
            return cls(config, folder, Manifest(folder).table(), output, device, *load_vgg(taps, config.vgg.weights))
        except (OSError, ValueError, pa.ArrowException) as error:
            raise ConfigError(str(error)) from error

    def rows(self, kind: Literal["image", "video"], hint: str = "") -> list[Row]:
        """Choose rows of status ok, by source, at most ``config.limit``; raises ConfigError if there is none."""
        keep = pc.and_(pc.equal(self.manifest["status"], "ok"), pc.equal(self.manifest["kind"], kind))
        rows = self.manifest.filter(keep).sort_by("source_uri").to_pylist()
        if not rows:
            raise ConfigError(
                f"run: no manifest with {'an' if kind == 'image' else 'a'} {kind} of status ok in "
                f"'{self.config.run}': give the output folder of nst-ops stylize{hint}"
            )
        return spread(rows, self.config.limit or len(rows))

    def styles(self, used: set[str]) -> list[Style]:
        """Read the reference style images, by the names that a run with ``style.images`` of them gives them.

        Without ``config.style`` they are the thumbnails in the run's checkpoint of many styles. Those ``used``
        alone are read, where there are any; raises ConfigError if there is none, or one is unreadable.
        """
        config = self.config
        references = self._style_uris(config.style) if config.style else self._thumbnails()
        names = spread([name for name in references if name in used] or list(references), config.style_limit)
        styles = []
        for name in progress(names, "styles"):
            reference = references[name]
            uri = reference if isinstance(reference, str) else name
            try:
                image = read_image(reference)
            except (OSError, MediaError) as error:
                raise ConfigError(f"style '{uri}' cannot be read: {error}") from error
            shorter = min(image.size)
            side = config.style_side or min(shorter, _LARGEST_STYLE)
            if side < SMALLEST_STYLE:
                raise ConfigError(f"style '{uri}' is only {shorter} px wide or high: give --style_side")
            if side != shorter:
                width, height = (max(side, round(each * side / shorter)) for each in image.size)
                image = image.resize((width, height), Image.Resampling.LANCZOS)
            styles.append(Style(name, np.asarray(image)))
        return styles

    def text(self) -> str | None:
        """Return the ``style.text`` of the run, if it has one."""
        with contextlib.suppress(ConfigError):
            text: str | None = run_config(self.folder).get("style", {}).get("text")
            return text
        return None

    @staticmethod
    def _style_uris(style: str) -> dict[str, str | bytes]:
        """URIs of the style images of a file or folder, by name."""
        try:
            images = StyleImages.open(StyleConfig(images=style, mode="random", side=SMALLEST_STYLE))
        except ConfigError as error:
            raise ConfigError(str(error).replace("style.images", "style")) from error
        return {name: f"{images.folder_uri}/{images.relpaths[name]}" for name in images.names}

    def _thumbnails(self) -> dict[str, str | bytes]:
        """JPEGs of the style images that the checkpoint of the run holds, by name."""
        checkpoint = run_config(self.folder).get("model", {}).get("checkpoint", "")
        styles = {}
        with contextlib.suppress(FileNotFoundError, ValueError):  # it may have gone since
            styles = read_styles(resolve_checkpoint(checkpoint))
        found: dict[str, str | bytes] = {name: facts.thumbnail for name, facts in styles.items() if facts.thumbnail}
        if found:
            return found
        raise ConfigError(
            f"style: the checkpoint of the run ('{checkpoint}') holds no pictures of styles: give --style, "
            "the style image or a folder of them"
        )

    def write(
        self, rows: Sequence[Row], table: str, summary: Mapping[str, Any], plots: Mapping[str, bytes], page: str
    ) -> str:
        """Write the rows as the Parquet file ``table``, summary, plots by name, and the page: its URI."""
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows), buffer)
        record = json.dumps({**summary, "config": self.config.model_dump(mode="json")}, indent=2) + "\n"
        for name, data in {table: buffer.getvalue(), SUMMARY: record.encode(), **plots, PAGE: page.encode()}.items():
            self.output.write_bytes(name, data)
        self.output.remove_scratch()
        return self.output.uri(PAGE)


def read_image(image: str | bytes, max_side: int | None = None) -> Image.Image:
    """Read an image, a file by its URI or the bytes of one, as RGB, transparent parts on white.

    It is reduced to ``max_side`` pixels.
    """
    if isinstance(image, str):
        folder, name = folder_and_name(image)
        image = folder.read_bytes(name)
    decoded = decode_image(image, max_side)
    opaque = Image.fromarray(decoded.rgb_hwc)
    if decoded.alpha_hw is None:
        return opaque
    return Image.composite(opaque, Image.new("RGB", opaque.size, "white"), Image.fromarray(decoded.alpha_hw))


def spread(items: list[T], count: int) -> list[T]:
    """Choose ``count`` items, evenly spread, or all where there are no more."""
    return items if len(items) <= count else [items[i * len(items) // count] for i in range(count)]


def progress(items: Iterable[T], name: str, total: int | None = None) -> Iterable[T]:
    """Show a bar on standard error while ``items`` are taken."""
    return track(items, f"{name:>8}", total, console=Console(stderr=True, markup=False))
