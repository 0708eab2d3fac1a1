"""Ray Data: from a folder of pictures to blocks of bytes in the object store.

They are decoded and resized once, before training starts, by every free core of the
cluster. Training then takes them by index from shared memory, without a copy, without tasks
that compete with it for cores, and in an order that a resumed run can repeat.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import ray
from ray.data import DataContext
from ray.data.block import BlockAccessor
from rich.console import Console
from rich.progress import track

from nst_ops.config import ConfigError, TrainingConfig
from nst_ops.media.errors import MediaError
from nst_ops.media.formats import media_kind
from nst_ops.media.images import decode_image
from nst_ops.storage import Folder
from nst_ops.training.photos import Photos, Place, UInt8Array, hold_out, square

_log = logging.getLogger(__name__)

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
