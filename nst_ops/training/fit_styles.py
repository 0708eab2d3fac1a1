"""``nst-ops fit-style``: paintings in, one file of styles out; each painting is safe as soon as it is fitted.

Or words in, for a style that CLIP fits to them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nst_ops.config import ConfigError, FatalError, FitStyleConfig
from nst_ops.losses.painting import TAPS
from nst_ops.media.errors import MediaError
from nst_ops.media.formats import media_kind
from nst_ops.media.images import UInt8Array, decode_image
from nst_ops.models.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from nst_ops.models.checkpoint_files import read_styles, resolve_checkpoint
from nst_ops.models.conditional import ConditionalNet
from nst_ops.models.device import find_device
from nst_ops.models.style_facts import StyleFacts, style_name
from nst_ops.models.vgg import VGGFeatures, WeightsError
from nst_ops.ray_cluster import cluster_at_hand
from nst_ops.storage import Folder, configure_storage
from nst_ops.stylizers.text_style import fit_text_style
from nst_ops.training.data import square
from nst_ops.training.fitting import FittedStyle, FittingMaterial, Painting, StyleFitting
from nst_ops.training.paintings import ONE_COLOR, name_paintings, read_painting, thumbnail
from nst_ops.training.progress import ProgressTracker

_log = logging.getLogger(__name__)

_PHOTOGRAPHS = Path(__file__).with_name(
    "photographs"
)  # those that come with the package; LICENSES.md names their authors
_PHOTO_SIDE = 512  # pixels at most of the squares that crops are cut from


@dataclass(frozen=True)
class FitOutcome:
    """What became of each painting: the file, names of fitted styles, reasons of failures by painting."""

    output: str
    fitted: list[str]
    failed: dict[str, str]

    def describe(self) -> str:
        """Return the outcome in lines for a person."""
        lines = [f"failed: {uri}: {reason}" for uri, reason in self.failed.items()]
        if self.fitted:
            lines += [f"{self.output}: {', '.join(self.fitted)}"]
            lines += [f"nst-ops stylize --input photos --output out --model.checkpoint {self.output}"]
        return "\n".join(lines)


def fit_styles(config: FitStyleConfig) -> FitOutcome:
    """Fit a style for each painting, or one to words, and write them into one file, before the styles of the base.

    Raises:
        ConfigError: no painting, or the words, photographs, base or weights, can be used; nothing was fitted.
        FatalError: no painting could be fitted, and one for another reason than that.
    """
    configure_storage(config.storage)
    output = _local_output(config.output)
    if config.style.text:
        return _fit_text(config, config.style.text, output)
    paintings = name_paintings(config.paintings)
    if config.fit.network and len(paintings) > 1:
        raise ConfigError("fit.network gives each painting a network of its own: fit one at a time, or leave it out")
    base = _load_base(config)
    _refuse_other_styles(output, base, paintings)
    material = _read_material(config, base)
    fit_all = partial(_fit_here, _find_device(config))
    if config.executor == "ray" or (config.executor == "auto" and cluster_at_hand(config.ray_address)):
        from nst_ops.training.fit_on_ray import fit_on_ray  # Ray takes seconds to import

        fit_all = partial(fit_on_ray, config)
    parts = Path(f"{output}.parts")
    parts.mkdir(exist_ok=True)
    fitted: dict[str, Checkpoint] = {}
    failed: dict[str, str] = {}
    diverged = False

    def pending() -> Iterator[Painting]:
        """Yield the paintings that were not fitted before."""
        for name, uri in paintings.items():
            try:
                painting_hwc = read_painting(uri, config.margin)
            except ConfigError as error:
                failed[uri] = str(error)
                _log.warning("%s", error)
                continue
            made_of = _fingerprint(config, base, painting_hwc)
            if (known := _read_part(parts / f"{name}.safetensors")) and known.facts.get("made_of") == made_of:
                fitted[name] = known
                _log.info("%s: fitted before", name)
                continue
            yield Painting(name, painting_hwc, uri, made_of)

    with ProgressTracker(config.fit.steps * len(paintings), 1) as tracker:
        for painting, result in fit_all(material, pending(), tracker):
            name = painting.name
            if isinstance(result, FloatingPointError):
                failed[painting.uri] = str(result)
                diverged = True
                _log.warning("%s", result)
                continue
            facts = {"made_of": painting.made_of, "start": result.start, "losses": result.losses, **_recipe(config)}
            style = StyleFacts(title=name, source=painting.uri, thumbnail=thumbnail(painting.pixels_hwc))
            part, temporary = parts / f"{name}.safetensors", parts / f"{name}.tmp"
            save_checkpoint(temporary, result.network, facts, {name: style})
            temporary.replace(part)
            fitted[name] = load_checkpoint(part)
    fitted = {name: fitted[name] for name in paintings if name in fitted}
    if not fitted:
        with contextlib.suppress(OSError):  # it holds what was fitted for others
            parts.rmdir()
        raise (FatalError if diverged else ConfigError)("; ".join(failed.values()))
    _write(output, fitted, base, config)
    if not failed:
        shutil.rmtree(parts)
    return FitOutcome(str(output), list(fitted), failed)


def _fit_text(config: FitStyleConfig, text: str, output: Path) -> FitOutcome:
    """Fit a style to words; bad words or weights are the configuration's fault."""
    base, photos = _load_base(config), _read_photos(config)
    try:
        device = _find_device(config)
        with ProgressTracker(config.text_fit.steps, 1) as tracker:
            progress = tracker.of_painting(style_name(text), 0)
            name = fit_text_style(output, text, base, config.clip, config.text_fit, photos, device, progress)
    except FloatingPointError as error:
        raise FatalError(str(error)) from error
    except (OSError, ValueError) as error:
        raise ConfigError(str(error)) from error
    return FitOutcome(str(output), [name], {})


def _refuse_other_styles(output: Path, base: Checkpoint, names: Iterable[str]) -> None:
    """Raise ConfigError where ``output`` holds styles that it would lose."""
    held = set(read_styles(output)) if output.is_file() else set()
    if lost := sorted(held.difference(base.expect(ConditionalNet).names, names)):
        raise ConfigError(
            f"output '{output}' holds the style '{lost[0]}', which is not fitted now: give another file, or add to it "
            f"with --base {output}"
        )


def _local_output(output: str) -> Path:
    if "://" in output:
        raise ConfigError(f"output '{output}': give a file on this machine")
    path = Path(output)
    if path.suffix != ".safetensors" or path.is_dir():
        raise ConfigError(f"output '{output}' must be a file that ends in .safetensors")
    if not path.parent.is_dir():
        raise ConfigError(f"output '{output}': there is no folder '{path.parent}'")
    return path


def _load_base(config: FitStyleConfig) -> Checkpoint:
    try:
        base = load_checkpoint(resolve_checkpoint(config.base))
        base.expect(ConditionalNet)
    except (OSError, ValueError) as error:
        raise ConfigError(f"base: {error}") from error
    return base


def _fit_here(
    device: torch.device, material: FittingMaterial, paintings: Iterable[Painting], tracker: ProgressTracker
) -> Iterator[tuple[Painting, FittedStyle | FloatingPointError]]:
    """Fit one painting after the other in this process."""
    fitting = StyleFitting(material, device)
    for number, painting in enumerate(paintings):
        progress = tracker.of_painting(painting.name, number * material.config.steps)
        try:
            yield painting, fitting.fit(painting.name, painting.pixels_hwc, progress)
        except FloatingPointError as error:
            yield painting, error


def _find_device(config: FitStyleConfig) -> torch.device:
    try:
        return find_device(config.device)
    except ValueError as error:
        raise ConfigError(f"device: {error}") from error


def _read_material(config: FitStyleConfig, base: Checkpoint) -> FittingMaterial:
    try:
        vgg = VGGFeatures("vgg19", TAPS, config.vgg.weights)
    except (OSError, WeightsError, ValueError) as error:
        raise ConfigError(f"vgg.weights: {error}") from error
    return FittingMaterial(base.expect(ConditionalNet), vgg, _read_photos(config), config.fit)


def _read_photos(config: FitStyleConfig) -> list[UInt8Array]:
    """Read the middle squares of photographs; raises ConfigError where there are none."""
    uri = config.data.content or str(_PHOTOGRAPHS)
    folder = Folder(uri)
    if not folder.exists():
        raise ConfigError(f"data.content: there is no folder '{uri}'")
    names = sorted(file.relpath for file in folder.files() if media_kind(file.relpath) == "image")
    rng = np.random.default_rng(config.fit.seed)
    photos = []
    for name in rng.permutation(names)[: config.data.limit] if names else []:
        try:
            decoded_hwc = decode_image(folder.read_bytes(str(name))).rgb_hwc
            photo_hwc = square(decoded_hwc, min(_PHOTO_SIDE, *decoded_hwc.shape[:2]))
            if photo_hwc.std() >= ONE_COLOR:
                photos.append(photo_hwc)
        except (MediaError, OSError) as error:
            _log.warning("data.content: skipped %s: %s", name, error)
    if not photos:
        raise ConfigError(f"data.content: no readable photographs in '{uri}'")
    return photos


def _recipe(config: FitStyleConfig) -> dict[str, Any]:
    versions = {"torch": str(torch.__version__)}
    return {"recipe": config.fit.model_dump(mode="json"), "base": os.path.basename(config.base), "versions": versions}


def _fingerprint(config: FitStyleConfig, base: Checkpoint, painting_hwc: UInt8Array) -> str:
    """Return what a fitted style depends on, as a hash."""
    rows = base.expect(ConditionalNet).rows.detach().numpy()
    recipe = json.dumps([config.fit.model_dump(mode="json"), config.data.content, config.data.limit], sort_keys=True)
    digest = hashlib.sha256(recipe.encode())
    for array in (rows, painting_hwc, np.array(painting_hwc.shape)):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _read_part(part: Path) -> Checkpoint | None:
    """Return a style that was fitted before; None where there is none, or it was not written to its end."""
    try:
        return load_checkpoint(part)
    except (CheckpointError, FileNotFoundError):
        return None


def _write(output: Path, fitted: Mapping[str, Checkpoint], base: Checkpoint, config: FitStyleConfig) -> None:
    """Write fitted rows, and those of the base beside them, which a network that was fitted, too, has made useless."""
    first = next(iter(fitted.values()))
    base_net = base.expect(ConditionalNet)
    kept = [] if config.fit.network else [name for name in base_net.names if name not in fitted]
    rows = {name: part.expect(ConditionalNet).row(name) for name, part in fitted.items()}
    rows |= {name: base_net.row(name) for name in kept}
    network = (first.expect(ConditionalNet) if config.fit.network else base_net).with_rows(rows)
    styles = {name: facts for part in fitted.values() for name, facts in part.styles.items()}
    styles |= {name: base.styles[name] for name in kept if name in base.styles}
    losses = {name: part.facts["losses"] for name, part in fitted.items()}
    temporary = output.with_suffix(".tmp")
    save_checkpoint(temporary, network, {**base.facts, "fitted": {"losses": losses, **_recipe(config)}}, styles)
    temporary.replace(output)
