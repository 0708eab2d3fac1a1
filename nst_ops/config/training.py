"""Configuration of the training jobs."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from pydantic_settings import CliPositionalArg

from nst_ops.config.base import JobConfig, StrictModel
from nst_ops.config.losses import LossConfig, PaintingLossConfig
from nst_ops.config.storage import StorageConfig
from nst_ops.config.text import ClipConfig, StyleText, TextFitConfig


class DataConfig(StrictModel):
    """Images to learn from."""

    content: str = Field(min_length=1)
    """Folder of content images, a path or a URI (s3://bucket/prefix); a few hundred photographs will do."""
    style: str | None = None
    """Folder of style images, a path or a URI, for a style that is many images and not one."""
    resize: int | None = Field(default=None, ge=32)
    """Side in pixels of the squares that images are resized to. Default: 1/8 more than train.image_size."""
    style_resize: int | None = Field(default=None, ge=32)
    """Side in pixels to which the images of data.style are resized. Default: as content images."""
    zoom: tuple[PositiveFloat, PositiveFloat] = (1.0, 1.0)
    """Smallest and largest factor by which the images of a step are resized before they are cropped."""
    limit: PositiveInt = 20_000
    """Images of a folder kept in memory at most; of more, a random sample. Each takes 3 * resize^2 bytes."""
    held_out: NonNegativeInt = 4
    """Content images kept for validation and not trained on; never more than a tenth of all."""


class TrainConfig(StrictModel):
    """Optimization: how long, how fast, how exact."""

    steps: PositiveInt = 2000
    """Optimization steps; a few hundred from a shipped style, thousands from fresh weights."""
    batch_size: PositiveInt = 4
    """Images per step, shared out among the workers: a recipe is the same on any number of them."""
    accumulate: PositiveInt = 1
    """Parts in which a worker takes its share of a batch, one by one: more parts need less memory."""
    image_size: int = Field(default=256, ge=32, multiple_of=4)
    """Side in pixels of the random crops that the network is trained on."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Peak learning rate of AdamW; lower it where losses are not finite."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of AdamW's two averages; adversarial training wants the first at 0.5."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Weight decay of AdamW; 0 turns it off."""
    reconstruct_first: NonNegativeInt = 0
    """Steps at the start that only learn to reproduce the image, or the drawing that loss.cel makes of it."""
    warmup: float = Field(default=0.1, ge=0, lt=1)
    """Share of the steps over which the learning rate rises to its peak."""
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    """Learning rate after the warm-up. cosine: falls to 0; step: falls to a tenth at 1/2 and 3/4 of all."""
    clip_norm: PositiveFloat | None = 1.0
    """Norm to which longer gradients are shortened; null never does."""
    ema_decay: float = Field(default=0.0, ge=0, lt=1)
    """Save an average of the weights over about 1 / (1 - decay) steps; 0 saves the last ones."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Precision of convolutions; losses stay fp32. auto: bf16 if the hardware has it, fp16 on older GPUs."""
    early_stop: PositiveInt | None = None
    """Validations in a row without a better one after which training stops. Default: it never does."""
    save_every: PositiveInt = 250
    """Steps between checkpoints, each with its validation, grid and curves."""
    seed: int = 0
    """Seed of fresh weights, the order of images, crops and noise: the same seed gives the same network."""


class TrainWorkersConfig(StrictModel):
    """Processes that train together, one per device."""

    count: PositiveInt | None = None
    """Number of workers. Default: one per GPU as far as they share a batch evenly, or one on the CPU."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of the workers. auto: a GPU each if there are any, else the CPU."""
    threads: PositiveInt | None = None
    """CPU threads of each worker. Default: the cores shared out among the workers."""
    max_failures: NonNegativeInt = 3
    """Times that training on Ray goes on from its last checkpoint after a worker or node is lost."""


class TrackingConfig(StrictModel):
    """Places for curves beside OUTPUT/losses.png and OUTPUT/tensorboard, which are always written."""

    wandb_project: str | None = None
    """Weights & Biases project to log to, once `pip install wandb` and `wandb login` are done."""


class TrainingConfig(JobConfig):
    """Base class of the configurations of training."""

    data: DataConfig
    output: str = Field(min_length=1)
    """Folder to write, a path or a URI: model.safetensors, model_card.md, losses, grids, tensorboard/."""
    train: TrainConfig = TrainConfig()
    workers: TrainWorkersConfig = TrainWorkersConfig()
    tracking: TrackingConfig = TrackingConfig()
    facts: dict[str, str] = Field(default={})
    """Words on the origin of the checkpoint, written into it: style, painter, data and its terms, license."""
    executor: Literal["auto", "local", "ray"] = "auto"
    """What trains. local: this process, without Ray; ray: Ray Train; auto: Ray where a cluster is at hand
    (ray_address, RAY_ADDRESS, a running head, ray job submit) or several workers train, else local."""
    ray_address: str = "auto"
    """Address of the Ray cluster. auto: the one at hand, or a new one here if it is needed; local: a new one here."""
    overwrite: bool = False
    """Start anew in an output that holds another run: its files are removed."""

    @property
    def resize(self) -> int:
        """Side in pixels of the content images kept in memory."""
        return self.data.resize or round(self.train.image_size * 1.125)

    @property
    def style_resize(self) -> int:
        """Side in pixels of the style images kept in memory."""
        return self.data.style_resize or self.resize

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for key in ("resize", "style_resize"):
            if (side := getattr(self, key)) < self.train.image_size:
                raise ValueError(f"data.{key} {side} is smaller than train.image_size {self.train.image_size}")
        if not 0.1 <= self.data.zoom[0] <= self.data.zoom[1] <= 10:
            raise ValueError(f"data.zoom {self.data.zoom}: the smallest and the largest factor, in this order")
        return self


class PerceptualTrainingConfig(TrainingConfig):
    """Base class of the configurations of training with the perceptual loss."""

    loss: LossConfig = LossConfig()

    @model_validator(mode="after")
    def _has_a_loss(self) -> Self:
        loss = self.loss
        if not (loss.content.weight or loss.gram.weight or loss.mean_std.weight or loss.adversarial.weight):
            raise ValueError("loss: no term has a weight, so there is nothing to learn")
        if loss.content.of == "drawing" and not loss.cel.weight:
            raise ValueError("loss.content.of: there is no drawing without loss.cel.weight")
        if loss.adversarial.weight and not self.data.style:
            raise ValueError("loss.adversarial needs data.style, the images to pass for")
        return self


class NetworkConfig(StrictModel):
    """Johnson network that is trained."""

    start_from: str | None = None
    """Shipped style by name, or checkpoint, to go on from; it saves steps. Default: fresh weights."""
    width: PositiveInt = 32
    """Channels of the first layer of a fresh network; 32 is the published one."""
    num_blocks: PositiveInt = 5
    """Residual blocks of a fresh network."""
    norm: Literal["instance", "layer", "none"] = "instance"
    """Normalization of a fresh network. instance: every image comes out at the same contrast; layer: areas of
    one color are kept; none: how light and dark the image is is kept, as a drawing of it wants it."""
    upsampling: Literal["nearest", "bilinear"] = "nearest"
    """Upsampling of a fresh network, before its convolutions; bilinear leaves smoother areas."""
    skips: bool = False
    """Let a fresh network add a change to the content image, so that small forms survive."""


class TrialsConfig(StrictModel):
    """Weights that --sweep tries: every combination, each for a short while."""

    gram: list[float] = Field(default=[4.0, 12.0, 36.0], min_length=1)
    """Values of loss.gram.weight."""
    variation: list[float] = Field(default=[0.1], min_length=1)
    """Values of loss.variation.weight."""
    noise: list[float] = Field(default=[0.0, 10.0], min_length=1)
    """Values of loss.noise.weight, the term against flicker."""
    steps: PositiveInt = 150
    """Steps of each trial."""


class TrainJohnsonConfig(PerceptualTrainingConfig):
    """Train a Johnson network on the images in DATA.CONTENT to stylize like STYLE, or like DATA.STYLE."""

    epilog: ClassVar[str] = """\
    examples:
      nst-ops train-johnson --config configs/train_johnson.yaml \\
          --data.content photos --style klimt.jpg --output runs/klimt
      ... --data.content s3://bucket/photos --output s3://bucket/klimt --workers.count 4
      ... --network.start_from starry_night --train.steps 600     (sooner there, from a shipped style)
      ... --sweep                                          (try weights of the loss: OUTPUT/sweep.png)

    Run the same command again after a stop or a crash: training goes on from the last checkpoint.
    OUTPUT/model.safetensors is what nst-ops stylize takes as --model.checkpoint.
    exit codes: 0 trained, 2 bad configuration, data or output, 1 diverged or fatal."""
    style: str | None = None
    """Style image, a path or a URI; or leave it out and give the folder data.style."""
    style_side: int = Field(default=512, ge=32)
    """Shorter side of the style image in pixels: twice as large gives strokes twice as large."""
    style_margin: float = Field(default=0.0, ge=0, lt=0.5)
    """Share of the style image to cut off at each side, such as bare canvas or a frame."""
    network: NetworkConfig = NetworkConfig()
    sweep: bool = False
    """Try weights instead of training once: OUTPUT/sweep.png shows what each combination gives."""
    trials: TrialsConfig = TrialsConfig()

    @model_validator(mode="after")
    def _has_one_style(self) -> Self:
        if bool(self.style) == bool(self.data.style):
            raise ValueError("style: give --style FILE, one style image, or --data.style FOLDER, many")
        if self.sweep and not self.style:
            raise ValueError("sweep: it compares weights for one style image, --style FILE")
        if self.loss.identity.weight:
            raise ValueError("loss.identity: a Johnson network has no style to exchange; leave it out")
        return self


class VitAdainConfig(StrictModel):
    """ViT-AdaIN network that is trained; configs/vit_adain_seed.yaml has the recipe it started from."""

    renamed: ClassVar[dict[str, str]] = {"normalisation": "normalization"}
    start_from: str | None = None
    """Checkpoint to go on from; it brings all that follows with it. Default: a fresh network."""
    encoder: str = "vit_base_patch16_224"
    """Encoder, a network of timm by name."""
    encoder_weights: str = "timm"
    """Weights of the encoder. timm: its own, downloaded once; none: fresh ones; or a file of weights."""
    encoder_options: dict[str, Any] = Field(default={})
    """Further arguments of the encoder in timm, such as depth."""
    frozen: bool = True
    """Keep the encoder as it is and train the rest; an encoder of fresh weights has to learn."""
    levels: list[int] = Field(default=[-1], min_length=1)
    """Blocks of the encoder whose features get the style; negative ones count from the last."""
    stem: NonNegativeInt = 0
    """Width of a small convolutional network that carries the details that patches lose; 0 for none."""
    normalization: Literal["encoder", "imagenet"] = "encoder"
    """Normalization of pixels: as the encoder was trained, or ImageNet's mean and deviation."""
    decoder: Literal["resize", "transposed"] = "resize"
    """Kind of decoder: upsampling and convolutions, or transposed convolutions with InstanceNorm."""
    widths: list[PositiveInt] = Field(default=[256, 128, 64, 32], min_length=1)
    """Channels of the decoder after each upsampling."""
    head: Literal["sigmoid", "tanh_imagenet"] = "sigmoid"
    """Output layer. sigmoid: all colors; tanh_imagenet: less than half of their range, as the seed has it."""

    @model_validator(mode="after")
    def _can_learn(self) -> Self:
        if self.frozen and self.encoder_weights == "none" and not self.start_from:
            raise ValueError("an encoder of fresh weights has to learn: take network.frozen false")
        return self


class TrainVitAdainConfig(PerceptualTrainingConfig):
    """Train a ViT-AdaIN network to stylize like any image, learned from DATA.CONTENT and DATA.STYLE."""

    epilog: ClassVar[str] = """\
    examples:
      nst-ops train-vit-adain --config configs/train_vit_adain.yaml \\
          --data.content photos --data.style paintings --output runs/adain
      ... --network.encoder vit_small_patch16_224 --network.encoder_weights vit_small.safetensors
      ... --network.encoder vit_tiny_patch16_224 --network.encoder_weights none --network.frozen false
      ... --workers.count 2 --train.batch_size 16

    Run the same command again after a stop or a crash: training goes on from the last checkpoint.
    OUTPUT/model.safetensors is what nst-ops stylize takes as --model.checkpoint, with
    --model.kind vit_adain and --style.images.
    exit codes: 0 trained, 2 bad configuration, data or output, 1 diverged or fatal."""
    network: VitAdainConfig = VitAdainConfig()

    @model_validator(mode="after")
    def _has_styles(self) -> Self:
        if not self.data.style:
            raise ValueError("data.style: give --data.style FOLDER, the style images to learn from")
        return self


class ManyStylesConfig(StrictModel):
    """Network of many styles that is trained."""

    start_from: str | None = None
    """Shipped network by name, or file (.safetensors, .onnx), to go on from: rows of the same names are kept, new
    ones begin at the nearest row. It saves most of the steps. Default: fresh weights."""
    width: PositiveInt = 32
    """Channels of the residual blocks of a fresh network."""
    num_blocks: PositiveInt = 6
    """Residual blocks of a fresh network."""
    encoder: tuple[PositiveInt, PositiveInt] = (32, 32)
    """Channels of a fresh network at full and at half size on the way in."""
    decoder: tuple[PositiveInt, PositiveInt] = (8, 4)
    """Channels of a fresh network at half and at full size on the way out."""


class TrainManyStylesConfig(TrainConfig):
    """Optimization: how long, how fast, how exact."""

    batch_size: PositiveInt = 2
    """Images per step, each in a style of its own, shared out among the workers."""
    image_size: int = Field(default=192, ge=96, multiple_of=4)
    """Side in pixels of the random crops that the network is trained on."""
    learning_rate: float = Field(default=2.5e-3, gt=0)
    """Peak learning rate of the convolutions; lower it where losses are not finite."""
    row_learning_rate: PositiveFloat = 0.03
    """Peak learning rate of the rows, of which a step moves only those that it draws."""
    betas: tuple[float, float] = (0.9, 0.99)
    """Decay of AdamW's two averages."""
    reconstruct_first: Literal[0] = 0
    """No such steps: the row identity learns to reproduce the image."""
    warmup: float = Field(default=0.03, ge=0, lt=1)
    """Share of the steps over which the learning rate rises to its peak."""
    clip_norm: PositiveFloat | None = 1.0
    """Norm to which longer gradients are shortened, of the convolutions and of each row apart; null never does."""
    ema_decay: float = Field(default=0.98, ge=0, lt=1)
    """Save an average of the weights over about 1 / (1 - decay) steps; 0 saves the last ones."""


class TrainMultiStyleConfig(TrainingConfig):
    """Train one network for many paintings, its convolutions and a row for each, on the images in DATA.CONTENT."""

    epilog: ClassVar[str] = """\
    examples:
      nst-ops train-multi-style --config configs/train_multi_style.yaml \\
          --paintings paintings --data.content photos --output runs/paintings
      ... --network.start_from styles --train.steps 1500       (sooner there, from the shipped network)
      ... --loss.contents mondrian=0.08,klee=0.3               (less or more of the photograph in some styles)
      ... --loss.motion.weight 0.05                            (less flicker in videos, a sixth more time)
      ... --workers.count 2 --train.batch_size 4

    Run the same command again after a stop or a crash: training goes on from the last checkpoint.
    OUTPUT/model.safetensors is what nst-ops stylize takes as --model.checkpoint; styles are named as the files of
    the paintings, with --style.name. One painting more, later: nst-ops fit-style --base OUTPUT/model.safetensors.
    exit codes: 0 trained, 2 bad configuration, data or output, 1 diverged or fatal."""
    paintings: list[str] = Field(min_length=1)
    """Style images, or folders of them: paths or URIs."""
    style_side: int = Field(default=640, ge=192)
    """Side in pixels of a square with as many pixels as a painting is given: more gives larger strokes."""
    style_margin: float = Field(default=0.02, ge=0, lt=0.5)
    """Share of each painting to cut off at each side, such as a frame."""
    network: ManyStylesConfig = ManyStylesConfig()
    train: TrainManyStylesConfig = TrainManyStylesConfig()
    loss: PaintingLossConfig = PaintingLossConfig()

    @model_validator(mode="after")
    def _has_paintings(self) -> Self:
        if self.data.style:
            raise ValueError("data.style: give the style images as --paintings")
        return self


class FitDataConfig(StrictModel):
    """Photographs that the network is fitted on."""

    content: str | None = None
    """Folder of photographs, a path or a URI; faces need some of faces. Default: the eleven that come with nst-ops."""
    limit: PositiveInt = 64
    """Photographs to take at most, a random choice of them."""


class FitVggConfig(StrictModel):
    """VGG19, by whose features styles are compared."""

    weights: str | None = None
    """File of weights with torchvision's keys. Default: torchvision's own, downloaded once."""


class FitConfig(StrictModel):
    """How a style is fitted."""

    network: bool = False
    """Fit the convolutions, too: a little closer to one painting, whose file then has no other style."""
    steps: PositiveInt = 130
    """Steps for each painting."""
    size: int = Field(default=176, ge=96)
    """Side in pixels of the crops of photographs."""
    side: int = Field(default=640, ge=192)
    """Side in pixels of a square with as many pixels as the painting is given: more gives larger strokes."""
    row_rate: PositiveFloat = 0.03
    """Learning rate of the row."""
    network_rate: PositiveFloat = 0.003
    """Learning rate of the convolutions."""
    content: float = Field(default=0.1, ge=0)
    """Weight of what the photograph shows; raise it where objects get lost."""
    palette: float = Field(default=0.2, ge=0)
    """Weight of the painting's distribution of colors."""
    seed: int = 0
    """Seed of the crops."""


class FitTextConfig(StrictModel):
    """Style from words, in the place of paintings."""

    text: StyleText | None = None
    """Words to fit a style to, by CLIP: "an oil painting of waves". It takes clip.weights."""


class FitStyleConfig(JobConfig):
    """Fit styles of paintings, or one of words: a row of a network of many styles for each, in some minutes."""

    epilog: ClassVar[str] = """\
    examples:
      nst-ops fit-style klimt.jpg --output klimt.safetensors
      nst-ops fit-style paintings --data.content photos --output paintings.safetensors
      nst-ops fit-style --style.text "an oil painting of waves" --clip.weights open_clip_model.safetensors \\
        --output waves.safetensors
      ... --executor ray                                   (many paintings at once, on a cluster or all cores)
      nst-ops stylize --input photos --output out --model.checkpoint klimt.safetensors

    The file holds the fitted styles, the first one first, and those of the base. Each painting is kept in OUTPUT.parts
    as soon as it is fitted: run the same command again after a stop, and only the others are fitted.
    exit codes: 0 fitted, 3 some paintings failed, 2 bad configuration or data, 1 fatal or stopped."""
    paintings: CliPositionalArg[list[str]] = Field(default=[])
    """Style images, or folders of them: paths or URIs."""
    style: FitTextConfig = FitTextConfig()
    output: str = Field(min_length=1)
    """File to write, .safetensors."""
    base: str = "styles"
    """Network of many styles to begin from: a shipped one by name, or a file (.safetensors, .onnx)."""
    data: FitDataConfig = FitDataConfig()
    vgg: FitVggConfig = FitVggConfig()
    fit: FitConfig = FitConfig()
    clip: ClipConfig = ClipConfig()
    text_fit: TextFitConfig = TextFitConfig()
    margin: float = Field(default=0.02, ge=0, lt=0.5)
    """Share of each painting to cut off at each side, such as a frame."""
    device: str = "auto"
    """Device: auto, cpu, cuda, cuda:1; on Ray auto, cpu or cuda."""
    executor: Literal["auto", "local", "ray"] = "auto"
    """What fits. local: this process, one painting after the other; ray: as many at once as the cluster has GPUs or
    CPU cores; auto: Ray where a cluster is at hand, else local."""
    ray_address: str = "auto"
    """Address of the Ray cluster. auto: the one at hand, or a new one here; local: a new one here."""
    storage: StorageConfig = StorageConfig()

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        if bool(self.paintings) == bool(self.style.text):
            raise ValueError('give paintings, or --style.text "an oil painting of waves", one of the two')
        return self
