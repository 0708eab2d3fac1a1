"""Configuration of ``jobs/stylize_dataset.py``."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from nst_ops.config.base import JobConfig, StrictModel
from nst_ops.config.losses import Weights
from nst_ops.config.storage import StorageConfig


class GatysContentConfig(StrictModel):
    """Keep what the photograph shows; relative error, 0 is the photograph, 1 an empty picture."""

    weight: float = Field(default=1.0, ge=0)
    """Weight of the term."""
    taps: Weights = Field(default={"relu4_2": 1.0})
    """VGG layers at which the photograph is compared, with their weights; deeper leaves strokes free."""


class GatysGramConfig(StrictModel):
    """Have the feature correlations of the painting; relative error, so one weight serves all paintings."""

    weight: float = Field(default=100.0, ge=0)
    """Weight of the term: more, and objects go; less, and the photograph is only tinted."""
    taps: Weights = Field(
        default={"relu1_1": 1.0, "relu2_1": 1.0, "relu3_1": 1.0, "relu4_1": 1.0, "relu5_1": 1.0}
    )
    """VGG layers at which correlations are compared, with their weights."""
    scales: dict[PositiveFloat, PositiveFloat] = Field(default={1.0: 1.0}, min_length=1)
    """Scales of the picture at which style is compared, with their weights: small ones see large forms,
    and stand in for deep layers that the weights lack."""


class GatysVariationConfig(StrictModel):
    """No noise from pixel to pixel."""

    weight: float = Field(default=2.0, ge=0)
    """Weight of the mean squared difference of neighbors."""


class GatysConfig(StrictModel):
    """The optimization of L. Gatys et al., CVPR 2016, for model.kind gatys."""

    network: Literal["vgg16", "vgg19"] = "vgg19"
    """The network that judges."""
    weights: str | None = None
    """File with its weights, keys as torchvision's. Default: torchvision's own, downloaded once."""
    padding: Literal["reflect", "zeros"] = "reflect"
    """Of the judge. With zeros, as it was trained, a frame is painted against them."""
    content: GatysContentConfig = GatysContentConfig()
    gram: GatysGramConfig = GatysGramConfig()
    variation: GatysVariationConfig = GatysVariationConfig()
    optimizer: Literal["lbfgs", "adam"] = "lbfgs"
    """lbfgs: further in the same time, one picture after another; adam: batches of pictures at once."""
    steps: PositiveInt = 100
    """Steps at each level; adam takes two to three times as many to come as far."""
    levels: PositiveInt = 2
    """Sizes that are painted: each twice the last one and going on from it. Coarse ones are quick and
    place large strokes; 1 paints at full size only, as the paper does."""
    learning_rate: float = Field(default=0.05, gt=0)
    """First step of Adam as a share of the range of a pixel; falls to 0 at the end of a level."""
    start: Literal["content", "noise"] = "content"
    """content: from the photograph, at every seed the same; noise: forms freer, needs more steps."""
    seed: int = 0
    """Of the noise."""


class ModelConfig(StrictModel):
    """The network that paints."""

    kind: str = "johnson"
    """johnson: a trained network of one style; vit_adain: a trained network that takes any style from
    style.images; gatys: the slow optimization that needs no training, style from style.images;
    identity: no change, to measure the pipeline alone; or a kind of your own (nst_ops.stylizers.register)."""
    checkpoint: str = "starry_night"
    """A shipped style by name, or the path of a checkpoint (.safetensors, .pth)."""
    device: str = "auto"
    """auto (a GPU if there is one), cpu, cuda, cuda:1."""
    precision: Literal["auto", "fp32", "fp16", "bf16"] = "auto"
    """auto: fp16 on a GPU, fp32 on a CPU."""
    batch_size: PositiveInt = 4
    """Frames, or images of one size, that the network takes at once."""
    tile: int | None = Field(default=None, ge=256)
    """Longer side in pixels above which frames are painted in overlapping tiles of this size, without a
    seam. Default: only where a frame does not fit into memory. For model.kind johnson."""
    gatys: GatysConfig = GatysConfig()


class StyleConfig(StrictModel):
    """Where the style comes from, for model.kind vit_adain and gatys."""

    images: str | None = None
    """A style picture, or a folder of them: a path or a URI."""
    mode: Literal["one", "each", "random"] = "one"
    """one: the one picture for all; each: every picture for every input, into OUTPUT/<style>/;
    random: a picture drawn for each input, the same on every rerun."""
    alpha: float = Field(default=1.0, ge=0, le=1)
    """Strength of the style, for vit_adain: 0 reconstructs the input, 1 is the full style."""
    seed: int = 0
    """Of the random draw."""
    preserve_color: bool = False
    """Keep the colors of the input and take only the style's light and dark, with any model."""
    side: int = Field(default=512, ge=32)
    """Shorter side in pixels to which style pictures are resized: larger gives larger strokes."""


class ResizeConfig(StrictModel):
    """The size that is stylized and written; strokes scale with it."""

    max_side: int | None = Field(default=None, ge=16)
    """Longer side in pixels of what is written; smaller sources stay as they are. Default: as the source."""


class ImagesConfig(StrictModel):
    """How stylized images are written."""

    quality: int = Field(default=95, ge=1, le=100)
    """Quality of lossy formats (JPEG, WebP, AVIF)."""


class VideoConfig(StrictModel):
    """How stylized videos are written; audio and subtitles are copied."""

    codec: Literal["h264", "h265", "av1"] = "h264"
    """h264 plays everywhere; h265 and av1 write smaller files and take longer."""
    encoder: Literal["software", "nvenc"] = "software"
    """software: x264, x265, SVT-AV1; nvenc: the encoder of an NVIDIA card, on every worker's machine."""
    crf: int | None = Field(default=None, ge=0, le=51)
    """Constant quality. Default: visually lossless, 18 for h264, 20 for h265, 24 for av1; 5 more is about
    half the size."""
    bitrate_kbps: PositiveInt | None = None
    """Average bitrate of the picture in kbit/s, instead of crf."""
    preset: Literal["ultrafast", "veryfast", "fast", "medium", "slow", "veryslow"] = "medium"
    """Encoder effort: faster presets write larger files."""
    pixel_format: Literal["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p10le"] = (
        "yuv420p"
    )
    """yuv420p plays everywhere; 10 bit shows no bands in soft gradients."""
    container: Literal["auto", "mp4", "mov", "mkv", "frames"] = "auto"
    """auto: the source's own where it can hold the result, else mkv; mov holds no av1; frames: a folder of
    PNG pictures for each video, without sound."""
    keyframe_interval_s: PositiveFloat | None = None
    """Seconds between keyframes at most: short to cut and scrub, long for small files. Default: the
    encoder's own, 250 frames."""
    side_by_side: bool = False
    """Write source and stylized picture beside each other, for review."""
    start_s: NonNegativeFloat = 0.0
    """Begin this many seconds into each video."""
    duration_s: PositiveFloat | None = None
    """Stylize at most this many seconds of each video, for a preview. Default: to its end."""
    max_frame_rate: PositiveFloat | None = None
    """Leave out frames above this rate, for a preview. Default: every frame."""
    keep_damaged: bool = False
    """Write what still decodes of a damaged video, with a note, instead of failing it."""


class TemporalConfig(StrictModel):
    """What holds a video still; nothing is ever mixed across a scene cut."""

    mode: Literal["none", "gate", "ema", "window"] = "window"
    """none: every frame by itself; gate: pixels that did not change keep their style, no flow; ema: blend
    with the previous output, moved along the flow; window: mean over the neighbors, moved along it."""
    radius: int = Field(default=3, ge=1, le=8)
    """Frames to each side that window takes in: more is stiller and softer."""
    weight: float = Field(default=0.7, ge=0, lt=1)
    """Share of the previous output in ema and gate: more is stiller and softer."""
    detail: float = Field(default=1.0, ge=0, le=1)
    """Fine texture that is won back after averaging: 1 as much as in the single frames, 0 none."""
    flow: Literal["auto", "dis", "lucas_kanade", "raft"] = "auto"
    """Optical flow on the source. dis: OpenCV, on the CPU; lucas_kanade: torch, on model.device; raft: a
    network, on model.device; auto: lucas_kanade on a GPU, else dis."""
    flow_weights: str | None = None
    """File with torchvision's raft_small weights. Default: torchvision's own, downloaded once."""
    flow_side: int = Field(default=480, ge=32)
    """Longer side in pixels at which flow is estimated."""
    scene_threshold: float = Field(default=0.35, gt=0, le=1)
    """How different two neighboring frames must look to be a scene cut; 1: no cuts."""
    freeze_statistics: bool = False
    """Normalize every frame of a shot by the same statistics, sampled from the shot: its contrast and
    colors do not breathe. For model.kind johnson with instance normalization."""


class UnitsConfig(StrictModel):
    """What one call of a worker processes and commits at once."""

    images: PositiveInt = 100
    """Images that a unit writes: with style.mode each that many by the number of styles, of at least one
    file. A unit should take seconds to a minute: 1000 suits GPUs. A video in up to four styles is a unit of
    its own, or several:"""
    segment_s: float = Field(default=120.0, ge=1)
    """Seconds of video in one unit: longer videos are cut at keyframes, so that several workers share
    one and a killed run goes on inside it. The frames come out the same however it is cut."""


class ShardsConfig(StrictModel):
    """Many images in one file: WebDataset tars, and Parquet with the bytes of images in a column.

    Both are read wherever they lie in the input; labels and other columns pass through.
    """

    format: Literal["auto", "files", "webdataset", "parquet"] = "auto"
    """How stylized images are written. auto: as they came, files as files and shards as shards; webdataset,
    parquet: all images into shards, so that a hundred million do not become a hundred million objects."""
    target_mb: PositiveFloat = 100.0
    """Size of a shard made from files, about: by the bytes of its sources."""
    image_column: str = "image"
    """Of Parquet shards: bytes, or the struct of bytes and path of Hugging Face datasets."""


class WorkersConfig(StrictModel):
    """The pool of workers: one process per device, each decodes, stylizes and encodes."""

    count: PositiveInt | None = None
    """Workers. Default: one per GPU of the cluster, or one per node where there is none."""
    min_count: PositiveInt | None = None
    """Workers that the pool never has less of, with max_count. Default: 1."""
    max_count: PositiveInt | None = None
    """Workers at most on a cluster that grows: the pool takes what is there and more as nodes come.
    Instead of count."""
    gpus: float | None = Field(default=None, gt=0)
    """GPUs of each worker: 0.5 puts two on one. Default: 1 where the network runs on one, less where
    count asks for more workers than GPUs."""
    cpus: float | None = Field(default=None, gt=0)
    """CPU cores that each worker takes of its node. Default: the cores of a node shared out among its
    workers."""
    threads: PositiveInt | None = None
    """CPU threads of the network in each worker. Default: as many as it has cores."""
    attempts: int = Field(default=3, ge=1, le=10)
    """Times an item is tried that kills its worker, before it is recorded as crashed."""
    queue_frames: PositiveInt = 16
    """Frames that may wait between decoder and network, and between network and encoder."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.count and (self.min_count or self.max_count):
            raise ValueError("give either count or, for a cluster that grows, min_count and max_count")
        if self.min_count and self.min_count > (self.max_count or 0):
            raise ValueError("min_count needs a max_count of at least as many")
        for key in ("gpus", "cpus"):
            if (amount := getattr(self, key)) and amount > 1 and amount % 1:
                raise ValueError(f"{key} is {amount:g}: above 1 it must be a whole number")
        return self


class ReportConfig(StrictModel):
    """What is drawn when the run is done."""

    pairs: NonNegativeInt = 12
    """Before/after pairs on the contact sheet; 0 for no sheet."""


_EPILOG = """\
Any key may stand in the file or on the command line; the command line wins.

examples, each after `python jobs/stylize_dataset.py --config configs/demo.yaml`:
  --input photos --output out/photos
  --input clips --output out/clips --resize.max_side 720
  --input clips --output out/clips --dry-run
  --input s3://bucket/clips --output s3://bucket/identity --model.kind identity
  --input photos --output out/styled --model.kind vit_adain --model.checkpoint FILE \\
    --style.images FOLDER --style.mode each

Run the same command again after a stop or a crash: finished files are kept, the rest is done.
exit codes: 0 all files ok, 3 finished with some files failed (see the manifest), 2 bad
configuration, input or output, 1 fatal (disk full, Ray lost).
"""


class StylizeConfig(JobConfig):
    """Stylize every image and video under INPUT into OUTPUT, and account for every file."""

    epilog: ClassVar[str] = _EPILOG

    input: str = Field(min_length=1)
    """What to read, a path or a URI (s3://bucket/prefix): a folder, a file, a pattern ('in/**/*.jpg'), or a
    list of files (.txt, .csv, .tsv, .jsonl, .parquet). Tars and Parquet files in it are shards of images."""
    output: str = Field(min_length=1)
    """Folder to write: stylized files in the input's tree, manifest/, report/, run.json."""
    model: ModelConfig = ModelConfig()
    style: StyleConfig = StyleConfig()
    resize: ResizeConfig = ResizeConfig()
    images: ImagesConfig = ImagesConfig()
    video: VideoConfig = VideoConfig()
    temporal: TemporalConfig = TemporalConfig()
    units: UnitsConfig = UnitsConfig()
    shards: ShardsConfig = ShardsConfig()
    storage: StorageConfig = StorageConfig()
    workers: WorkersConfig = WorkersConfig()
    report: ReportConfig = ReportConfig()
    executor: Literal["auto", "local", "ray"] = "auto"
    """What runs the workers. local: processes on this machine, without Ray; ray: a Ray cluster; auto: Ray
    where a cluster is at hand (ray_address, RAY_ADDRESS, a running head, ray job submit), else local."""
    ray_address: str = "auto"
    """auto joins the cluster at hand or starts Ray on this machine; local always starts one."""
    dry_run: bool = False
    """Stop after the preflight table: files, frames, collisions, devices, estimated time and size."""
    retry_failed: bool = False
    """Try items again that an earlier run recorded as failed or crashed."""
    overwrite: bool = False
    """Let this run replace the output of another model or configuration."""
