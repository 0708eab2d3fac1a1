"""The style of ``style.text``: fitted once, on the driver, before a run; the output keeps it for those that resume."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nst_ops.collection.constants import RUN_FILE, TEXT_STYLES
from nst_ops.collection.inputs import Source, discover
from nst_ops.collection.run_lock import OutputInUseError, read_fingerprint, refuse_other_run
from nst_ops.config import ConfigError, FatalError, StylizeConfig
from nst_ops.config.storage import StorageConfig
from nst_ops.media.images import UInt8Array, decode_image
from nst_ops.media.video.reader import VideoReader
from nst_ops.models.checkpoint_files import read_facts, resolve_checkpoint
from nst_ops.pipeline.executors import Executor
from nst_ops.storage import Folder, configure_storage
from nst_ops.storage.scratch import ScratchFolder
from nst_ops.stylizers.registry import kind_of

_log = logging.getLogger(__name__)

_PHOTOS, _PHOTO_SIDE = 8, 768  # files of the input that a style is fitted on, and their longer side in pixels
_CANDIDATES = 3  # files looked at for each that is wanted: some cannot be read
_READ_S, _LOG_EVERY_S = 300.0, 10.0


def settle_text_style(config: StylizeConfig, source: Source, output: Folder, executor: Executor) -> StylizeConfig:
    """Return ``config`` with the checkpoint that ``style.text`` comes to, whose first style it is.

    A run goes on with the row that it began with; a dry run fits none. Raises ConfigError for words or weights that
    cannot be used and for the output of another run, and FatalError where the fit fails.
    """
    text = config.style.text
    try:
        if not text or not kind_of(config.model).has_named_styles:
            return config  # a model without named styles is refused with the other keys of the style
        base = resolve_checkpoint(config.model.checkpoint)
        made_of = _fingerprint(config, base)
    except (OSError, ValueError) as error:
        raise ConfigError(str(error)) from error
    if config.overwrite or _made_of(output) != made_of:
        if not config.overwrite:
            _refuse_other_text(output, text)
        if config.dry_run:
            _log.info("style.text: it is not fitted for a dry run, the times are those of any style")
            return config
        output.write_bytes(TEXT_STYLES, _fit(config, text, base, made_of, source, executor))
    model = config.model.model_copy(update={"checkpoint": output.uri(TEXT_STYLES)})
    return config.model_copy(update={"model": model})


def _fingerprint(config: StylizeConfig, base: Path) -> str:
    """Return what a row depends on, but for the photographs, as a hash."""
    files = [base, *([Path(config.clip.weights)] if config.clip.weights else [])]
    parts: list[Any] = [config.style.text, config.text_fit.model_dump(mode="json"), config.clip.architecture]
    for path in files:
        with path.open("rb") as file:
            parts.append(hashlib.file_digest(file, "sha256").hexdigest())
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _made_of(output: Folder) -> str | None:
    """Return the fingerprint of the row that an output holds, if it holds one."""
    if not output.exists(TEXT_STYLES):
        return None
    facts = read_facts(resolve_checkpoint(output.uri(TEXT_STYLES))).get("fitted_to_text", {})
    return facts.get("made_of") if isinstance(facts, dict) else None


def _refuse_other_text(output: Folder, text: str) -> None:
    """Raise OutputInUseError for an output that holds a run, which is one of other words, or files of somebody else."""
    if output.exists(RUN_FILE):
        earlier = read_fingerprint(output).get("style.text")
        what = f"style.text was {earlier!r}, is now {text!r}"
        if earlier == text:
            what = "its style.text was fitted with other weights or keys of text_fit"
        raise OutputInUseError(f"'{output.uri()}' holds another run: {what}. Take another output, or --overwrite")
    refuse_other_run(output, {})


def _fit(config: StylizeConfig, text: str, base: Path, made_of: str, source: Source, executor: Executor) -> bytes:
    """Fit a row to a text; return the file of the styles of ``base`` behind it."""
    from nst_ops.models.checkpoint import load_checkpoint  # torch takes seconds, and only this needs it on the driver
    from nst_ops.models.device import find_device
    from nst_ops.stylizers.text_style import fit_text_style

    relpaths = _candidates(source, config)
    photos = executor.call(_read_photos, config.storage, source.root, relpaths, limit_s=_READ_S) if relpaths else []
    if not photos:
        raise ConfigError(
            f"style.text is fitted on images or videos, and none can be read in input '{config.input}': fit it with "
            "nst-ops fit-style --style.text, and give its file as --model.checkpoint"
        )
    steps, logged = config.text_fit.steps, time.monotonic()

    def tell(step: int, losses: Mapping[str, float]) -> None:
        nonlocal logged
        if step == steps or time.monotonic() - logged > _LOG_EVERY_S:
            logged = time.monotonic()
            terms = ", ".join(f"{term} {value:.3g}" for term, value in losses.items())
            _log.info("style.text: step %d of %d: %s", step, steps, terms)

    _log.info("style.text: fitting '%s' on %d images of the input", text, len(photos))
    try:
        device = find_device("cpu" if config.model.device == "cpu" else "auto")
        with ScratchFolder() as scratch:
            path, checkpoint = Path(scratch, TEXT_STYLES), load_checkpoint(base)
            fit_text_style(path, text, checkpoint, config.clip, config.text_fit, photos, device, tell, made_of)
            return path.read_bytes()
    except FloatingPointError as error:
        raise FatalError(f"style.text: {error}") from error
    except (OSError, ValueError) as error:
        raise ConfigError(str(error)) from error


def _candidates(source: Source, config: StylizeConfig) -> list[tuple[str, str]]:
    """Return the kinds and paths of some images and videos, spread evenly over the first files of the input."""
    batch = next(iter(discover(source, config.discovery)), None)
    rows = batch.select(["kind", "relpath", "problem"]).to_pylist() if batch else []
    media = sorted((row["relpath"], row["kind"]) for row in rows if row["kind"] in ("image", "video"))
    count = min(len(media), _CANDIDATES * _PHOTOS)
    return [media[number * len(media) // count][::-1] for number in range(count)]


def _read_photos(storage: StorageConfig, root: str, files: list[tuple[str, str]]) -> list[UInt8Array]:
    """Read images, and first frames of videos, uint8 (H, W, 3), until there are enough; in a process of a worker."""
    configure_storage(storage)
    folder, photos = Folder(root), list[UInt8Array]()
    # One of every few first: where all can be read, they come from all of the input.
    for kind, relpath in [file for first in range(_CANDIDATES) for file in files[first::_CANDIDATES]]:
        with contextlib.suppress(Exception):  # it will be a failed row of the run
            if kind == "image":
                photos.append(decode_image(folder.read_bytes(relpath), _PHOTO_SIDE).rgb_hwc)
            else:
                with VideoReader(folder.media_source(relpath), _PHOTO_SIDE) as reader:
                    photos.append(np.asarray(next(iter(reader.frames())).rgb_hwc))
        if len(photos) == _PHOTOS:
            break
    return photos
