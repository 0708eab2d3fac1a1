"""What all training jobs have in common."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from nst_ops.config.base import JobConfig, StrictModel
from nst_ops.config.losses import LossConfig


class DataConfig(StrictModel):
    """The pictures to learn on."""

    content: str = Field(min_length=1)
    """Folder of photographs, a path or a URI (s3://bucket/prefix); a few hundred will do."""
    style: str | None = None
    """Folder of style pictures, a path or a URI, for a style that is many pictures and not one."""
    resize: int | None = Field(default=None, ge=32)
    """Side in pixels of the squares kept in memory. Default: 1/8 more than train.image_size."""
    style_resize: int | None = Field(default=None, ge=32)
    """Likewise, of style pictures. Default: as the photographs."""
    zoom: tuple[PositiveFloat, PositiveFloat] = (1.0, 1.0)
    """Smallest and largest factor by which the photographs of a step are resized before they are cut."""
    limit: PositiveInt = 20_000
    """Photographs kept in memory at most; of more, a random sample. Each takes 3 * resize^2 bytes."""
    held_out: NonNegativeInt = 4
    """Photographs for the validation grid, which are not trained on; never more than a tenth of all."""


class TrainConfig(StrictModel):
    """How long and how fast."""

    steps: PositiveInt = 2000
    """Optimisation steps."""
    batch_size: PositiveInt = 4
    """Photographs per step, shared out among the workers: a recipe is the same on any number of them."""
    accumulate: PositiveInt = 1
    """Parts in which a worker takes its share of a batch: more, for less memory."""
    image_size: int = Field(default=256, ge=32, multiple_of=4)
    """Side in pixels of the random crops."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Peak rate of Adam."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of Adam's two averages; adversarial training wants the first at 0.5."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Of AdamW."""
    reconstruct_first: NonNegativeInt = 0
    """Steps at the start that only learn to repaint the photograph, or what loss.cel makes of it."""
    warmup: float = Field(default=0.1, ge=0, lt=1)
    """Share of the steps over which the rate rises to its peak."""
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    """After the warm-up: cosine falls to 0; step falls to a tenth at 1/2 and at 3/4 of the steps."""
    clip_norm: PositiveFloat | None = 1.0
    """Upper bound of the gradient's norm; null for none."""
    ema_decay: float = Field(default=0.0, ge=0, lt=1)
    """Save an average of the weights over about 1 / (1 - decay) steps; 0 saves the last ones."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Of convolutions; losses stay fp32. auto: bf16 where the hardware has it, fp16 on older GPUs."""
    early_stop: PositiveInt | None = None
    """Stop after so many validations in a row without a better one. Default: never."""
    save_every: PositiveInt = 250
    """Steps between checkpoints, validation grids and curves."""
    seed: int = 0
    """Of the fresh weights, the order of the photographs, crops and noise."""


class TrainWorkersConfig(StrictModel):
    """Processes that train together, one per device."""

    count: PositiveInt | None = None
    """Workers. Default: one per GPU of the cluster as far as they share a batch evenly, or one on the CPU."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: GPUs if the cluster has any."""
    threads: PositiveInt | None = None
    """CPU threads of each worker. Default: the cores shared out among the workers."""
    max_failures: NonNegativeInt = 3
    """Times that training goes on from its last checkpoint after a worker or node is lost."""


class TrackingConfig(StrictModel):
    """Where curves go beside OUTPUT/losses.png and OUTPUT/tensorboard, which are always written."""

    wandb_project: str | None = None
    """Weights & Biases project, if `pip install wandb` and `wandb login` were done."""


class TrainingConfig(JobConfig):
    """The base of a training job's configuration."""

    data: DataConfig
    output: str = Field(min_length=1)
    """Folder to write, a path or a URI: model.safetensors, model_card.md, losses, grids, tensorboard/."""
    loss: LossConfig = LossConfig()
    train: TrainConfig = TrainConfig()
    workers: TrainWorkersConfig = TrainWorkersConfig()
    tracking: TrackingConfig = TrackingConfig()
    facts: dict[str, str] = Field(default={})
    """What the checkpoint should say of its origin: style, painter, data and its terms, licence."""
    ray_address: str = "auto"
    """auto joins the cluster at hand or starts Ray on this machine; local always starts one."""
    overwrite: bool = False
    """Start anew in an output that holds another run."""

    @property
    def resize(self) -> int:
        """Side in pixels of the squares kept in memory."""
        return self.data.resize or round(self.train.image_size * 1.125)

    @property
    def style_resize(self) -> int:
        """Side in pixels of the squares of style pictures kept in memory."""
        return self.data.style_resize or self.resize

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.resize < self.train.image_size:
            raise ValueError(
                f"data.resize {self.resize} is smaller than train.image_size {self.train.image_size}"
            )
        if self.style_resize < self.train.image_size:
            raise ValueError(
                f"data.style_resize {self.style_resize} is smaller than "
                f"train.image_size {self.train.image_size}"
            )
        if not 0.1 <= self.data.zoom[0] <= self.data.zoom[1] <= 10:
            raise ValueError(
                f"data.zoom {self.data.zoom}: the smallest and the largest factor, in this order"
            )
        loss = self.loss
        if not (loss.content.weight or loss.gram.weight or loss.mean_std.weight or loss.adversarial.weight):
            raise ValueError("loss: no term has a weight, so there is nothing to learn")
        if loss.content.of == "drawing" and not loss.cel.weight:
            raise ValueError("loss.content.of: there is no drawing without loss.cel.weight")
        if loss.adversarial.weight and not self.data.style:
            raise ValueError("loss.adversarial needs data.style, the pictures to pass for")
        return self
