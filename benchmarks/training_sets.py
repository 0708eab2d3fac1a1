"""Measure what random styles do to a training set: are labels kept, how far do images move, how many looks are there?

Run it from the root of the repository: ``python benchmarks/training_sets.py --help``; see docs/training_sets.md.
"""

from __future__ import annotations

import itertools
import sys
from tempfile import TemporaryDirectory
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field, PositiveInt

from benchmarks.figures_table import show_figures
from nst_ops import StylizeConfig, stylize_collection
from nst_ops.collection.manifest import Manifest
from nst_ops.config import ConfigError, EvaluateConfig, FatalError, parse_config
from nst_ops.config.base import JobConfig
from nst_ops.config.evaluate import ClassifierConfig, VGGConfig
from nst_ops.evaluation.image_metrics import color_quantiles, squared_distance
from nst_ops.evaluation.images import evaluate_images
from nst_ops.evaluation.run import read_image
from nst_ops.storage import Folder

SETTINGS: dict[str, dict[str, object]] = {
    "strength 0.25": {"strength": 0.25},
    "strength 0.5": {"strength": 0.5},
    "strength 0.75": {"strength": 0.75},
    "strength 1": {},
    "strength 1, one style each": {"mixes": 1},
    "strength 1, colors kept": {"preserve_color": True},
}
_SHOWN = ("label_kept", "label_in_top5", "content_relu3_1", "ssim", "edge_f1", "color_difference")


class TrainingSetsConfig(JobConfig):
    """Stylize photographs in random styles at several strengths, and measure what a training set of them would be."""

    epilog: ClassVar[str] = """\
    example:
      python benchmarks/training_sets.py --input photos --classifier.weights squeezenet1_0.safetensors \\
          --vgg.weights vgg19.safetensors --output training_sets.json
    """
    input: str = Field(min_length=1)
    """Folder of photographs of what the classifier knows."""
    output: str = ""
    """File for the figures as JSON. Default: they are only shown."""
    checkpoint: str = "styles"
    """Network of many styles: the name of a shipped one, or a path."""
    classifier: ClassifierConfig
    vgg: VGGConfig = VGGConfig()
    max_side: int = Field(default=256, ge=64)
    """Longer side in pixels of what is stylized."""
    seeds: PositiveInt = 6
    """Random styles of each photograph, among which diversity is measured."""


def stylized(config: TrainingSetsConfig, output: str, seed: int, **style: object) -> str:
    """Stylize all photographs with draws of ``seed`` into ``output``, and return it."""
    random = {"seed": seed} | ({"mixes": style.pop("mixes")} if "mixes" in style else {})
    keys = {"input": config.input, "output": output, "model": {"checkpoint": config.checkpoint}}
    sections = {"style": {"random": random, **style}, "resize": {"max_side": config.max_side}, "executor": "local"}
    stylize_collection(StylizeConfig.model_validate(keys | sections))
    return output


def colors(run: str) -> dict[str, torch.Tensor]:
    """Quantiles of the colors (P, Q) of every output of a run, by source."""
    rows = [row for row in Manifest(Folder(run)).table().to_pylist() if row["status"] == "ok"]
    images = ((row["source_uri"], np.array(read_image(row["output_uri"]))) for row in rows)
    return {uri: color_quantiles(torch.from_numpy(rgb).permute(2, 0, 1)[None] / 255)[0] for uri, rgb in images}


def mean_distance(clouds: list[torch.Tensor]) -> float:
    """Mean palette distance of all pairs, in Lab units, as ``image_metrics.palette_distance`` measures it."""
    pairs = itertools.combinations(clouds, 2)
    return float(np.mean([(3 * squared_distance(one[None], other)).sqrt().item() for one, other in pairs]))


def measure(config: TrainingSetsConfig) -> dict[str, dict[str, float]]:
    """Figures by setting."""
    figures: dict[str, dict[str, float]] = {}
    with TemporaryDirectory() as scratch:
        for number, (name, style) in enumerate(SETTINGS.items()):
            run = stylized(config, f"{scratch}/{number}", 0, **dict(style))
            keys = {"run": run, "output": f"{run}_evaluated", "vgg": config.vgg, "classifier": config.classifier}
            results = evaluate_images(EvaluateConfig.model_validate(keys)).results
            figures[name] = {metric: results.spread(metric).mean for metric in _SHOWN if metric in results.metrics()}
        runs = [colors(stylized(config, f"{scratch}/seed{seed}", seed)) for seed in range(config.seeds)]
        every = [mean_distance([run[uri] for run in runs]) for uri in sorted(runs[0])]
        identity = {"input": config.input, "output": f"{scratch}/same", "model": {"kind": "identity"}}
        same = {"resize": {"max_side": config.max_side}, "executor": "local"}
        stylize_collection(StylizeConfig.model_validate(identity | same))
        figures["diversity: mean palette distance in Lab units"] = {
            f"{config.seeds} random styles of one photograph": float(np.mean(every)),
            "photographs, one with another": mean_distance(list(colors(f"{scratch}/same").values())),
            "the same, each in a random style": mean_distance(list(runs[0].values())),
        }
    return figures


def main() -> int:
    """Stylize and measure; the exit code is 0 done, 1 fatal, 2 bad configuration."""
    config = parse_config(TrainingSetsConfig)
    try:
        show_figures(measure(config), config.output)
    except (ConfigError, FatalError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
