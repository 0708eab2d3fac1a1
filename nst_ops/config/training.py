"""Configuration of the training jobs."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

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
    """Optimization steps."""
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
    """What the checkpoint should say of its origin: style, painter, data and its terms, license."""
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
    color; none: keeps how light and dark the picture is, as a drawing of it wants it."""
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


class VitAdainConfig(StrictModel):
    """The network that is trained; configs/vit_adain_seed.yaml has the recipe it started from."""

    start_from: str | None = None
    """A checkpoint to go on from; it brings all that follows with it. Default: a fresh network."""
    encoder: str = "vit_base_patch16_224"
    """A network of timm, by name."""
    encoder_weights: str = "timm"
    """timm: its own, downloaded once; none: fresh ones; or a file, safetensors or a state dict."""
    encoder_options: dict[str, Any] = Field(default={})
    """Further arguments of that network in timm, such as depth."""
    frozen: bool = True
    """Keep the encoder as it is; fresh weights have to learn."""
    levels: list[int] = Field(default=[-1], min_length=1)
    """Blocks of the encoder whose features get the style; negative ones count from the last."""
    stem: NonNegativeInt = 0
    """Width of a small convolutional network that carries what patches lose; 0 for none."""
    normalization: Literal["encoder", "imagenet"] = "encoder"
    """Of the pixels: as the encoder was trained, or ImageNet's mean and deviation."""
    decoder: Literal["resize", "transposed"] = "resize"
    """Upsampling and convolutions, or transposed convolutions with InstanceNorm."""
    widths: list[PositiveInt] = Field(default=[256, 128, 64, 32], min_length=1)
    """Channels of the decoder after each upsampling."""
    head: Literal["sigmoid", "tanh_imagenet"] = "sigmoid"
    """sigmoid: all colors; tanh_imagenet: less than half of their range, as the seed has it."""

    @model_validator(mode="after")
    def _can_learn(self) -> Self:
        if self.frozen and self.encoder_weights == "none" and not self.start_from:
            raise ValueError("an encoder of fresh weights has to learn: take network.frozen false")
        return self


_EPILOG_train_vit_adain = """\
Any key may stand in the file or on the command line; the command line wins.

examples:
  python jobs/train_vit_adain.py --config configs/train_vit_adain.yaml \\
      --data.content photos --data.style paintings --output runs/adain
  ... --network.encoder vit_small_patch16_224 --network.encoder_weights vit_small.safetensors
  ... --network.encoder vit_tiny_patch16_224 --network.encoder_weights none --network.frozen false
  ... --workers.count 2 --train.batch_size 16

Run the same command again after a stop or a crash: training goes on from the last checkpoint.
OUTPUT/model.safetensors is what jobs/stylize_dataset.py takes as --model.checkpoint, with
--model.kind vit_adain and --style.images.
exit codes: 0 trained, 2 bad configuration, data or output, 1 diverged or fatal.
"""


class TrainVitAdainConfig(TrainingConfig):
    """Train a ViT-AdaIN network to paint DATA.CONTENT like any picture, learned from those in DATA.STYLE."""

    epilog: ClassVar[str] = _EPILOG_train_vit_adain

    network: VitAdainConfig = VitAdainConfig()

    @model_validator(mode="after")
    def _has_styles(self) -> Self:
        if not self.data.style:
            raise ValueError("data.style: give --data.style FOLDER, the style pictures to learn from")
        return self
