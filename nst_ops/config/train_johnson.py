"""Configuration of ``jobs/train_johnson.py``."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from nst_ops.config.base import JobConfig, StrictModel

Units = Literal["relative", "mean", "sum"]
Weights = Annotated[dict[str, PositiveFloat], Field(min_length=1)]


class DataConfig(StrictModel):
    """The photographs to learn on."""

    content: str = Field(min_length=1)
    """Folder of photographs, a path or a URI (s3://bucket/prefix); a few hundred will do."""
    resize: int | None = Field(default=None, ge=32)
    """Side in pixels of the squares kept in memory. Default: 1/8 more than train.image_size."""
    limit: PositiveInt = 20_000
    """Photographs kept in memory at most; of more, a random sample. Each takes 3 * resize^2 bytes."""
    held_out: NonNegativeInt = 4
    """Photographs for the validation grid, which are not trained on; never more than a tenth of all."""


class NetworkConfig(StrictModel):
    """The network that is trained."""

    start_from: str | None = None
    """A shipped style by name, or a checkpoint, to go on from; it saves steps. Default: fresh weights."""
    width: PositiveInt = 32
    """Channels of the first layer of a fresh network; 32 is the published one."""
    num_blocks: PositiveInt = 5
    """Residual blocks of a fresh network."""


class ContentConfig(StrictModel):
    """Keep what the photograph shows (Johnson et al. 2016, eq. 2)."""

    weight: float = Field(default=1.0, ge=0)
    """Weight of the term; 0 leaves it out."""
    taps: Weights = Field(default={"relu3_1": 1.0})
    """VGG layers at which the photograph is compared, with their weights; deeper leaves strokes free."""
    units: Literal["relative", "mean"] = "relative"
    """relative: error over the photograph's energy, alike for every VGG; mean: mean squared error."""


class GramConfig(StrictModel):
    """Have the feature correlations of the painting (Gatys et al. 2016, eq. 4)."""

    weight: float = Field(default=12.0, ge=0)
    """Weight of the term; 0 leaves it out."""
    taps: Weights = Field(default={"relu1_2": 1.0, "relu2_2": 1.0, "relu3_1": 1.0, "relu3_4": 1.0})
    """VGG layers at which correlations are compared, with their weights."""
    scales: dict[PositiveFloat, PositiveFloat] = Field(default={1.0: 1.0, 0.5: 1.0, 0.25: 0.5}, min_length=1)
    """Scales of the picture at which style is compared, with their weights; small ones see large forms."""
    units: Units = "relative"
    """relative: error over the painting's energy, one weight for all styles, taps and scales weighted as
    a mean; mean, sum: of the squared differences, taps and scales weighted as a sum."""


class MeanStdConfig(StrictModel):
    """Have the channel means and deviations of the painting (Huang and Belongie 2017, eq. 13)."""

    weight: float = Field(default=0.0, ge=0)
    """Weight of the term; 0 leaves it out."""
    taps: Weights = Field(default={"relu1_2": 1.0, "relu2_2": 1.0, "relu3_1": 1.0})
    """VGG layers at which they are compared, with their weights."""
    units: Literal["relative", "mean"] = "relative"
    """As of the Gram term."""


class VariationConfig(StrictModel):
    """No noise from pixel to pixel (Rudin et al. 1992)."""

    weight: float = Field(default=0.1, ge=0)
    """Weight of the term; 0 leaves it out."""
    units: Literal["mean", "sum"] = "mean"
    """mean: one weight for every picture size; sum: over all pixels, as older recipes have it."""


class NoiseConfig(StrictModel):
    """Paint a noisy photograph as the clean one, against flicker: fresh noise at every step."""

    weight: float = Field(default=0.0, ge=0)
    """Weight of the mean squared difference; 0 leaves it out and saves a forward pass."""
    amplitude: float = Field(default=30 / 255, ge=0, le=1)
    """Largest change of a noisy pixel, of the range [0, 1]."""
    share: float = Field(default=0.05, ge=0, le=1)
    """Share of the pixels that get noise."""


class MotionConfig(StrictModel):
    """Paint a moved photograph as the moved painting of it, against textures that stick to the screen."""

    weight: float = Field(default=0.0, ge=0)
    """Weight of the mean squared difference; 0 leaves it out and saves a forward pass."""
    max_shift: float = Field(default=0.05, ge=0, le=0.5)
    """Largest shift, as a share of the picture's side."""
    max_zoom: float = Field(default=0.05, ge=0, le=0.5)
    """Largest zoom, in or out."""


class LossConfig(StrictModel):
    """What the network is asked for. Each term is logged on its own, unweighted."""

    network: Literal["vgg16", "vgg19"] = "vgg19"
    """The network that judges."""
    weights: str | None = None
    """File with its weights, keys as torchvision's. Default: torchvision's own, downloaded once."""
    padding: Literal["reflect", "zeros"] = "reflect"
    """Of the judge. With zeros, as it was trained, networks paint a grey frame against it."""
    content: ContentConfig = ContentConfig()
    gram: GramConfig = GramConfig()
    mean_std: MeanStdConfig = MeanStdConfig()
    variation: VariationConfig = VariationConfig()
    noise: NoiseConfig = NoiseConfig()
    motion: MotionConfig = MotionConfig()

    def taps(self) -> set[str]:
        """Every VGG layer that a term with weight looks at."""
        terms = (self.content, self.gram, self.mean_std)
        return {tap for term in terms if term.weight for tap in term.taps}


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


class TrainJohnsonConfig(JobConfig):
    """Train a Johnson network on the photographs in DATA.CONTENT to paint like STYLE."""

    epilog: ClassVar[str] = _EPILOG

    data: DataConfig
    style: str = Field(min_length=1)
    """Picture of the painting, a path or a URI."""
    style_side: int = Field(default=512, ge=32)
    """Shorter side of the painting in pixels: twice as large gives strokes twice as large."""
    style_margin: float = Field(default=0.0, ge=0, lt=0.5)
    """Share of the painting to cut off at each side, such as bare canvas."""
    output: str = Field(min_length=1)
    """Folder to write, a path or a URI: model.safetensors, model_card.md, losses, grids, tensorboard/."""
    network: NetworkConfig = NetworkConfig()
    loss: LossConfig = LossConfig()
    train: TrainConfig = TrainConfig()
    workers: TrainWorkersConfig = TrainWorkersConfig()
    tracking: TrackingConfig = TrackingConfig()
    sweep: bool = False
    """Try weights instead of training once: OUTPUT/sweep.png shows what each combination gives."""
    trials: TrialsConfig = TrialsConfig()
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

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.resize < self.train.image_size:
            raise ValueError(
                f"data.resize {self.resize} is smaller than train.image_size {self.train.image_size}"
            )
        if not self.loss.content.weight and not (self.loss.gram.weight or self.loss.mean_std.weight):
            raise ValueError("loss: no term has a weight, so there is nothing to learn")
        return self
