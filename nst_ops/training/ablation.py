"""What each change of a recipe is worth: train them all alike, judge them alike, put them side by side."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nst_ops.config import ConfigError
from nst_ops.config.ablation import AblationConfig
from nst_ops.config.train_vit_adain import TrainVitAdainConfig
from nst_ops.evaluation.features import load_judge
from nst_ops.evaluation.judge import Taps, judge, pairs_of
from nst_ops.evaluation.report import Report
from nst_ops.media.errors import MediaError
from nst_ops.media.formats import media_kind
from nst_ops.media.images import decode_image
from nst_ops.models.checkpoint import load_checkpoint
from nst_ops.ray_connection import connected
from nst_ops.storage import Folder
from nst_ops.stylizers import Style, resolve_checkpoint
from nst_ops.training.grid import png_bytes, sheet, stylize
from nst_ops.training.photos import UInt8Array, square, to_tensor
from nst_ops.training.run import train_network
from nst_ops.training.state import MODEL

_log = logging.getLogger(__name__)

TABLE, FIGURES, PICTURE = "ablation.md", "ablation.json", "ablation.png"
_SHOWN = 8
_REFERENCES = 256
_METRICS = {"gram": "Gram error ↓", "palette": "palette ↓", "content_relu3_1": "content ↓", "ssim": "SSIM ↑"}


@dataclass(frozen=True)
class Result:
    """A recipe, and what it came to on the photographs of the test.

    Attributes:
        recipe: its name.
        metrics: by name, means over the photographs, and ``frechet_<tap>`` of the set.
        images_per_s: of its training.
        parameters: of its network.
    """

    recipe: str
    metrics: dict[str, float]
    images_per_s: float
    parameters: int


@torch.inference_mode()
def ablate(config: AblationConfig) -> str:
    """Train and judge every recipe of ``config``; those that are trained already are judged only.

    Returns:
        The table, as Markdown.

    Raises:
        ConfigError: data, weights or output that cannot be used.
        nst_ops.training.TrainingError: a recipe diverged or Ray was lost; the same command goes on.
    """
    runs, output = config.runs(), Folder(config.output)
    side = next(iter(runs.values())).train.image_size
    photos = to_tensor(np.stack(_squares(config.test, side, config.test_limit, "test")[1]))
    names, pixels = _squares(config.data.style or "", side, _REFERENCES, "data.style")
    references = [Style(name, picture) for name, picture in zip(names, pixels, strict=True)]
    drawn = np.random.default_rng(0).integers(len(pixels), size=len(photos))
    styles = to_tensor(np.stack([pixels[index] for index in drawn]))
    vgg, lacking = load_judge(Taps().all(), config.vgg_weights)
    results: list[Result] = []
    rows: dict[str, Tensor] = {"content": photos[:_SHOWN], "style": styles[:_SHOWN]}
    with connected(config.ray_address):
        for name, run in runs.items():
            _log.info("recipe '%s'", name)
            with torch.inference_mode(False), torch.enable_grad():
                facts = train_network(run)
            stylized = _stylized(run, photos, styles)
            rows[name] = stylized[:_SHOWN]
            found = judge(pairs_of(photos, stylized), references, vgg, lacking=lacking)
            results.append(Result(name, _figures(found), facts["images_per_s"], facts["parameters"]))
            output.write_bytes(PICTURE, png_bytes(sheet(rows)))
            output.write_bytes(FIGURES, json.dumps([vars(r) for r in results], indent=2).encode())
    itself = judge(pairs_of(photos, photos), references, vgg, lacking=lacking)
    photographs = Result("the photographs themselves", _figures(itself), 0, 0)
    text = table([photographs, *results])
    output.write_bytes(TABLE, text.encode())
    return text


def table(results: list[Result]) -> str:
    """A row for each recipe, in Markdown."""
    frechet = [name for name in results[0].metrics if name.startswith("frechet_")]
    heads = [f"Fréchet {name.removeprefix('frechet_')} ↓" for name in frechet] + list(_METRICS.values())
    lines = [
        "| recipe | " + " | ".join(heads) + " | parameters | images/s |",
        "|---|" + "---:|" * (len(heads) + 2),
    ]
    for result in results:
        figures = [f"{result.metrics[name]:.3g}" for name in (*frechet, *_METRICS)]
        cost = (
            [f"{result.parameters / 1e6:.2f} M", f"{result.images_per_s:.1f}"]
            if result.parameters
            else ["", ""]
        )
        lines.append(f"| {result.recipe} | " + " | ".join([*figures, *cost]) + " |")
    return "\n".join(lines) + "\n"


def _figures(report: Report) -> dict[str, float]:
    frechet = {f"frechet_{tap}": distance.outputs for tap, distance in report.distribution.items()}
    return frechet | {name: report.spread(name).mean for name in _METRICS}


def _stylized(run: TrainVitAdainConfig, photos: Tensor, styles: Tensor) -> Tensor:
    checkpoint = resolve_checkpoint(f"{run.output}/{MODEL}")
    model: Any = load_checkpoint(checkpoint).model
    batches = zip(photos.split(8), styles.split(8), strict=True)
    return torch.cat([stylize(model, *batch) for batch in batches])


def _squares(uri: str, side: int, limit: int, key: str) -> tuple[list[str], list[UInt8Array]]:
    """Names and middle squares, uint8 (side, side, 3), of at most ``limit`` readable pictures."""
    folder = Folder(uri)
    names = sorted(file.relpath for file in folder.files() if media_kind(file.relpath) == "image")
    chosen = [names[i] for i in np.linspace(0, len(names) - 1, min(limit, len(names))).astype(int)]
    pictures = {}
    for name in chosen:
        try:
            pictures[name] = square(decode_image(folder.read_bytes(name)).rgb_hwc, side)
        except (MediaError, OSError) as error:
            _log.warning("%s: skipped %s: %s", key, name, error)
    if not pictures:
        raise ConfigError(f"{key}: no readable pictures in '{folder.uri()}'")
    return list(pictures), list(pictures.values())
