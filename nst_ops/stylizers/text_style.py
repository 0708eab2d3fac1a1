"""A style from words: a row of a network of many styles, fitted by CLIP to a text from the known row nearest to it.

Only the row moves, so the pass stays as fast as for any style. The losses are those of
``nst_ops.losses.clip_direction`` and the distance from the known rows, which keeps what the photograph shows.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nst_ops.config.text import ClipConfig, TextFitConfig
from nst_ops.losses.clip_direction import cut_patches, direction_distance, patch_distance
from nst_ops.losses.style import total_variation
from nst_ops.media.images import UInt8Array
from nst_ops.models.checkpoint import Checkpoint, save_checkpoint
from nst_ops.models.clip import Clip
from nst_ops.models.conditional import ConditionalNet
from nst_ops.models.style_facts import IDENTITY, MOST_LETTERS, StyleFacts, style_name
from nst_ops.stylizers.row_fitting import Progress, crop_photo, descend

_ORIGIN = "a photo"  # the text that photographs are, as CLIPstyler has it
_STARTS, _AT_ONCE = 2, 16  # photographs on which rows are compared; rows at once
_LEAST_SPREAD = 0.05  # of a number of the known rows, where they agree


def load_clip(config: ClipConfig, text: str, key: str = "style.text") -> tuple[Clip, Tensor]:
    """Load CLIP and return it with the direction of a text from "a photo", (D,).

    Raises ValueError, and FileNotFoundError for weights that do not exist; ``key`` of the text is for the message.
    """
    if not config.weights:
        raise ValueError(
            f"{key} needs the weights of CLIP: give --clip.weights FILE, such as open_clip_model.safetensors "
            "of a ViT-B-32, see docs/styles.md"
        )
    try:
        clip = Clip(config.weights, config.architecture)
    except ValueError as error:
        raise ValueError(str(error) if str(error).startswith("clip.") else f"clip.weights: {error}") from error
    try:
        direction = clip.encode_text(text, in_sentences=True) - clip.encode_text(_ORIGIN, in_sentences=True)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from error
    return clip, direction


def fit_text_style(
    path: Path,
    text: str,
    base: Checkpoint,
    clip_config: ClipConfig,
    config: TextFitConfig,
    photos: Sequence[UInt8Array],
    device: torch.device,
    progress: Progress,
    made_of: str = "",
) -> str:
    """Fit a row to a text and write it before the styles of ``base``; return its name.

    ``photos`` are uint8 (H, W, 3), any sizes; ``made_of`` is kept among the facts. The file is whole or not there.
    Raises as ``load_clip`` does, and FloatingPointError where the loss is no number any more.
    """
    network = base.expect(ConditionalNet)
    plain, taken = style_name(text), {IDENTITY, *network.names}
    numbered = (f"{plain[:50]}_{number}" for number in itertools.count(2))
    name = next(name for name in itertools.chain([plain], numbered) if name not in taken)
    clip, direction = load_clip(clip_config, text)
    fitting = _TextFitting(network, clip, direction, photos, config, device)
    start = fitting.nearest()
    row, losses = fitting.fit(name, start, progress)
    rows = {name: row} | {known: network.row(known) for known in network.names}
    architecture = clip_config.architecture or f"of {Path(clip_config.weights or '').name}"
    facts = {
        "text": text,
        "made_of": made_of,
        "start": start,
        "losses": losses,
        "recipe": config.model_dump(mode="json"),
        "clip": architecture,
        "row_sha256": hashlib.sha256(row.half().numpy().tobytes()).hexdigest(),
        "versions": {"torch": str(torch.__version__)},
    }
    style = StyleFacts(title=text[:MOST_LETTERS], source=f"fitted by CLIP {architecture} to these words")
    temporary = path.with_suffix(".tmp")
    checkpoint_facts = {**base.facts, "fitted_to_text": facts}
    save_checkpoint(temporary, network.with_rows(rows), checkpoint_facts, {name: style} | base.styles)
    temporary.replace(path)
    return name


class _TextFitting:
    """Fits the row of one text; all on one device, in fp32."""

    def __init__(
        self,
        base: ConditionalNet,
        clip: Clip,
        direction: Tensor,
        photos: Sequence[UInt8Array],
        config: TextFitConfig,
        device: torch.device,
    ) -> None:
        self._network = copy.deepcopy(base).to(device).requires_grad_(False)
        self._clip, self._direction = clip.to(device), direction.to(device)
        self._photos, self._config, self._device = photos, config, device
        self._known = [name for name in base.names if name != IDENTITY] or [*base.names]
        rows = torch.stack([self._network.row(name) for name in self._known])
        self._mean, self._spread = rows.mean(0), rows.std(0, correction=0).clamp_min(_LEAST_SPREAD)

    @torch.no_grad()
    def nearest(self) -> str:
        """Return the name of the row whose stylized photographs lie nearest to the text."""
        distances = dict.fromkeys(self._known, 0.0)
        for number in range(_STARTS):
            photo = self._photo(number)
            origin = self._clip.encode_images(photo)
            for first in range(0, len(self._known), _AT_ONCE):
                names = self._known[first : first + _AT_ONCE]
                rows = torch.stack([self._network.row(name) for name in names])
                found = self._clip.encode_images(self._network(photo.expand(len(names), -1, -1, -1), rows))
                for name, distance in zip(names, direction_distance(found, origin, self._direction), strict=True):
                    distances[name] += distance.item()
        return min(distances, key=lambda name: distances[name])

    def fit(self, name: str, start: str, progress: Progress) -> tuple[Tensor, dict[str, float]]:
        """Return the fitted row, (R,) on the host, and the last losses."""
        config = self._config
        row = self._network.row(start).detach().clone().requires_grad_()

        def losses_at(step: int) -> tuple[Tensor, Mapping[str, Tensor]]:
            terms = self._losses(row, _STARTS + step)
            total = config.whole * terms["whole"] + config.patch * terms["patch"]
            return total + config.variation * terms["variation"] + config.prior * terms["prior"], terms

        (mean,), losses = descend(name, [([row], config.rate)], config.steps, losses_at, progress)
        return mean.cpu(), losses

    def _losses(self, row: Tensor, number: int) -> dict[str, Tensor]:
        photo = self._photo(number)
        stylized = self._network(photo, row)
        rng = np.random.default_rng([self._config.seed, number, 1])
        patches = cut_patches(stylized, self._config.patches, self._clip.side, rng)
        with torch.no_grad():
            origin = self._clip.encode_images(photo)
        found, of_patches = self._clip.encode_images(stylized), self._clip.encode_images(patches)
        return {
            "whole": direction_distance(found, origin, self._direction).mean(),
            "patch": patch_distance(of_patches, origin, self._direction, self._config.threshold),
            "variation": total_variation(stylized),
            "prior": ((row - self._mean) / self._spread).square().mean(),
        }

    def _photo(self, number: int) -> Tensor:
        rng = np.random.default_rng([self._config.seed, number])
        return crop_photo(self._photos, self._config.size, rng, self._device)
