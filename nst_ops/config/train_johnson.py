"""Configuration of ``jobs/train_johnson.py``."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from nst_ops.config.base import StrictModel
from nst_ops.config.training import TrainingConfig


class NetworkConfig(StrictModel):
    """The network that is trained."""

    start_from: str | None = None
    """A shipped style by name, or a checkpoint, to go on from; it saves steps. Default: fresh weights."""
    width: PositiveInt = 32
    """Channels of the first layer of a fresh network; 32 is the published one."""
    num_blocks: PositiveInt = 5
    """Residual blocks of a fresh network."""
    norm: Literal["instance", "layer", "none"] = "instance"
    """Of a fresh network. instance: paints every picture at the same contrast; layer: keeps areas of one
    colour; none: keeps how light and dark the picture is, as a drawing of it wants it."""
    upsampling: Literal["nearest", "bilinear"] = "nearest"
    """Of a fresh network, before its convolutions; bilinear leaves smoother areas."""
    skips: bool = False
    """Of a fresh network: paint a change of the photograph, so that small forms survive."""


class TrialsConfig(StrictModel):
    """What --sweep tries: every combination, each for a short while."""

    gram: list[float] = Field(default=[4.0, 12.0, 36.0], min_length=1)
    """Values of loss.gram.weight."""
    variation: list[float] = Field(default=[0.1], min_length=1)
    """Values of loss.variation.weight."""
    noise: list[float] = Field(default=[0.0, 10.0], min_length=1)
    """Values of loss.noise.weight, the temporal term."""
    steps: PositiveInt = 150
    """Steps of each trial."""


_EPILOG = """\
Any key may stand in the file or on the command line; the command line wins.

examples:
  python jobs/train_johnson.py --config configs/train_johnson.yaml \\
      --data.content photos --style klimt.jpg --output runs/klimt
  ... --data.content s3://bucket/photos --output s3://bucket/klimt --workers.count 4
  ... --network.start_from starry_night --train.steps 600     (sooner there, from a shipped style)
  ... --sweep                                                (which weights? a picture of the answers)

Run the same command again after a stop or a crash: training goes on from the last checkpoint.
OUTPUT/model.safetensors is what jobs/stylize_dataset.py takes as --model.checkpoint.
exit codes: 0 trained, 2 bad configuration, data or output, 1 diverged or fatal.
"""


class TrainJohnsonConfig(TrainingConfig):
    """Train a Johnson network on the photographs in DATA.CONTENT to paint like STYLE, or like DATA.STYLE."""

    epilog: ClassVar[str] = _EPILOG

    style: str | None = None
    """Picture of the painting, a path or a URI; or leave it out and give the folder data.style."""
    style_side: int = Field(default=512, ge=32)
    """Shorter side of the painting in pixels: twice as large gives strokes twice as large."""
    style_margin: float = Field(default=0.0, ge=0, lt=0.5)
    """Share of the painting to cut off at each side, such as bare canvas."""
    network: NetworkConfig = NetworkConfig()
    sweep: bool = False
    """Try weights instead of training once: OUTPUT/sweep.png shows what each combination gives."""
    trials: TrialsConfig = TrialsConfig()

    @model_validator(mode="after")
    def _has_one_style(self) -> Self:
        if bool(self.style) == bool(self.data.style):
            raise ValueError("style: give --style FILE, one painting, or --data.style FOLDER, many pictures")
        if self.sweep and not self.style:
            raise ValueError("sweep: it compares weights for one painting, --style FILE")
        if self.loss.identity.weight:
            raise ValueError("loss.identity: a Johnson network has no style to exchange; leave it out")
        return self
