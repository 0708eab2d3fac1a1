"""Configuration of ``jobs/ablate_vit_adain.py``."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from pydantic import Field, PositiveInt, ValidationError, model_validator

from nst_ops.config.base import JobConfig
from nst_ops.config.train_vit_adain import TrainVitAdainConfig
from nst_ops.config.training import DataConfig

_EPILOG = """\
example:
  python jobs/ablate_vit_adain.py --config configs/ablation.yaml --data.content faces --data.style anime \\
      --test other_faces --vgg_weights vgg19.safetensors --output runs/ablation

OUTPUT/ablation.md is the table, OUTPUT/ablation.png the same faces by every recipe; both grow with each.
exit codes: 0 done, 2 bad configuration, data or output, 1 diverged or fatal.
"""


class AblationConfig(JobConfig):
    """Train recipes of ViT-AdaIN on the same data for the same steps, and judge them alike."""

    epilog: ClassVar[str] = _EPILOG

    data: DataConfig
    """What all recipes learn from; the pictures of data.style are also what they are held against."""
    test: str = Field(min_length=1)
    """Folder of photographs that no recipe has seen, a path or a URI."""
    test_limit: PositiveInt = 100
    """Of those, the number that is judged; of more, an evenly spread choice."""
    references: PositiveInt = 128
    """Pictures of data.style that outputs are held against; of more, an evenly spread choice."""
    output: str = Field(min_length=1)
    """Folder to write: ablation.md, ablation.json, ablation.png."""
    vgg_weights: str | None = None
    """File with the weights of the VGG19 that trains and judges. Default: torchvision's."""
    base: dict[str, Any] = Field(default={})
    """Sections of the first recipe, keys as in configs/train_vit_adain.yaml."""
    recipes: dict[str, dict[str, Any]] = Field(min_length=1)
    """By name what each changes of the recipe before it."""
    threads: PositiveInt | None = None
    """CPU threads. Default: all cores."""

    def runs(self) -> dict[str, TrainVitAdainConfig]:
        """The training of each recipe."""
        common = {
            "data": self.data.model_dump(),
            "loss": {"weights": self.vgg_weights},
            "output": self.output,
        }
        recipe, runs = merged(self.base, common), {}
        for name, changes in self.recipes.items():
            recipe = merged(recipe, changes)
            runs[name] = TrainVitAdainConfig.model_validate(recipe)
        return runs

    @model_validator(mode="after")
    def _recipes_are_valid(self) -> Self:
        try:
            sizes = {run.train.image_size for run in self.runs().values()}
        except ValidationError as error:
            reasons = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise ValueError(f"recipes: {reasons}") from error
        if len(sizes) > 1:
            raise ValueError("recipes: all must have one train.image_size, or they cannot be compared")
        return self


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """``changes`` laid on ``base``; of what is no section, such as taps, the whole is replaced."""
    result = dict(base)
    for key, value in changes.items():
        old = result.get(key)
        section = isinstance(old, dict) and isinstance(value, dict) and key not in ("taps", "scales")
        result[key] = merged(old, value) if section else value  # type: ignore[arg-type]
    return result
