"""Configuration of ``nst-ops stylize``."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from nst_ops.config.base import JobConfig, StrictModel
from nst_ops.config.losses import Weights
from nst_ops.config.storage import StorageConfig
from nst_ops.config.text import ClipConfig, StyleText, TextFitConfig

Hdr = Literal["tonemap", "keep"]

RETRY_KEYS = frozenset({"shards.image_column", "video.keep_damaged"})
"""Keys that decide whether an item fails, and change nothing about an item that does not: ``retry_failed`` may come
with other values than the rows that stay."""


class GatysContentConfig(StrictModel):
    """Keep what the content image shows. The error is relative: 0 is the image itself, 1 an empty one."""

    weight: float = Field(default=1.0, ge=0)
    """Weight of the term; raise it where objects get lost."""
    taps: Weights = Field(default={"relu4_2": 1.0})
    """VGG layers at which content is compared, with their weights; deeper layers leave strokes freer."""


class GatysGramConfig(StrictModel):
    """Match the feature correlations of the style image; a relative error, so one weight fits all styles."""

    weight: float = Field(default=100.0, ge=0)
    """Weight of the term: with more, objects dissolve; with less, the image is only tinted."""
    taps: Weights = Field(default={"relu1_1": 1.0, "relu2_1": 1.0, "relu3_1": 1.0, "relu4_1": 1.0, "relu5_1": 1.0})
    """VGG layers at which correlations are compared, with their weights."""
    scales: dict[PositiveFloat, PositiveFloat] = Field(default={1.0: 1.0}, min_length=1)
    """Scales at which style is compared, with weights; small ones see large forms, in place of deep layers, too."""


class GatysVariationConfig(StrictModel):
    """Suppress noise from pixel to pixel."""

    weight: float = Field(default=2.0, ge=0)
    """Weight of the mean squared difference of neighboring pixels; 0 turns it off."""


class GatysConfig(StrictModel):
    """Optimization of each image by L. Gatys et al., CVPR 2016, for model.kind gatys."""

    network: Literal["vgg16", "vgg19"] = "vgg19"
    """VGG network whose features are compared."""
    weights: str | None = None
    """File with the weights of VGG, keys as torchvision's. Default: torchvision's own, downloaded once."""
    padding: Literal["reflect", "zeros"] = "reflect"
    """Padding of VGG's convolutions. zeros, as it was trained, makes the optimization draw a frame."""
    content: GatysContentConfig = GatysContentConfig()
    gram: GatysGramConfig = GatysGramConfig()
    variation: GatysVariationConfig = GatysVariationConfig()
    optimizer: Literal["lbfgs", "adam"] = "lbfgs"
    """lbfgs gets further in the same time, one image after another; adam takes batches of images at once."""
    steps: PositiveInt = 100
    """Steps at each level; adam needs two to three times as many to come as far."""
    levels: PositiveInt = 2
    """Sizes stylized in turn, each twice the last: coarse ones place large strokes; 1: full size, as the paper does."""
    learning_rate: float = Field(default=0.05, gt=0)
    """First step of Adam as a share of the range of a pixel; it falls to 0 at the end of a level."""
    start: Literal["content", "noise"] = "content"
    """content starts from the content image, the same with every seed; noise gives freer forms and needs more steps."""
    seed: int = 0
    """Seed of the noise that start noise begins with."""


class AnimeConfig(StrictModel):
    """Drawing of faces as anime, for model.kind anime."""

    eye_size: float = Field(default=1.0, ge=0.6, le=1.4)
    """Size of the eyes as a factor; 1 is about twice as high as in the photograph."""
    line_weight: float = Field(default=1.0, ge=0.3, le=3)
    """Width of all lines as a factor; lines grow with the face."""
    palette_strength: float = Field(default=1.0, ge=0, le=2)
    """How far colors are made bright and vivid: 0 leaves those of the photograph."""
    blush: float = Field(default=1.0, ge=0, le=2)
    """Strength of the blush on the cheeks; 0 for none."""
    background: Literal["painted", "flat", "kept"] = "painted"
    """painted: soft areas in the colors of the photograph; flat: one pale color; kept: the photograph itself."""


class OnnxConfig(StrictModel):
    """What goes into the network of an ONNX file and comes out of it, for model.kind onnx."""

    layout: Literal["auto", "nchw", "nhwc"] = "auto"
    """Order of the axes of its input: batch, channels, height, width, or channels last. auto: by its shape."""
    input_range: Literal["auto", "unit", "symmetric", "byte", "imagenet"] = "auto"
    """Values it takes. unit: 0 to 1; symmetric: -1 to 1; byte: 0 to 255; imagenet: 0 to 1, less ImageNet's mean, by
    its deviation. auto: those with which it makes the best picture of three that are made up."""
    output_range: Literal["auto", "unit", "symmetric", "byte"] = "auto"
    """Values it gives; auto as for input_range."""
    channels: Literal["rgb", "bgr"] = "rgb"
    """Order of the colors that it takes and gives; a network that OpenCV fed may be bgr: skin comes out blue."""
    stride: PositiveInt | None = None
    """Number of pixels by which both sides must be divisible; frames are padded by reflection. Default: the smallest
    power of two up to 64 with which the output is as large as the input."""


class ModelConfig(StrictModel):
    """Network that stylizes."""

    shipped: ClassVar[dict[str, str]] = {"johnson": "starry_night", "any_style": "any_style"}
    """Shipped checkpoint of each kind that takes another one than the default, where only the kind is given."""

    kind: str = "johnson"
    """johnson: a network trained for one style; multi_style: one of many named styles; any_style and vit_adain: one for
    any style, from style.images; onnx: any network from image to image in an ONNX file (extra nst-ops[onnx]); left out,
    the checkpoint says which. gatys: the slow optimization that needs no training, style from style.images; anime:
    faces are found and drawn, on the CPU (extra nst-ops[anime]); identity: no change, to measure the pipeline alone; or
    a kind of your own (nst_ops.stylizers.register)."""
    checkpoint: str = "styles"
    """Name of a shipped style or checkpoint, or the path or URI of a checkpoint (.safetensors, .pth, .onnx)."""
    device: str = "auto"
    """Device of the network: auto, cpu, cuda, cuda:1. auto takes a GPU if there is one; a GPU that was granted, by Ray
    or in CUDA_VISIBLE_DEVICES, and cannot be used is an error."""
    precision: Literal["auto", "fp32", "fp16", "bf16"] = "auto"
    """Precision of the network; auto takes fp16 on a GPU, bf16 on a CPU that multiplies in it, else fp32."""
    batch_size: PositiveInt | None = None
    """Frames, or images of one size, that the network takes at once; fewer where memory is short. Default: 4; on a GPU
    more of small ones, as many as have the pixels of a frame of 1080p, up to 64."""
    tile: int | None = Field(default=None, ge=256)
    """Longer side in pixels above which johnson, multi_style and any_style take seamless tiles of this size, and onnx
    tiles that overlap and are blended. Default: where memory is short, onnx never."""
    gatys: GatysConfig = GatysConfig()
    anime: AnimeConfig = AnimeConfig()
    onnx: OnnxConfig = OnnxConfig()

    @model_validator(mode="before")
    @classmethod
    def _take_shipped(cls, values: Any) -> Any:
        if isinstance(values, dict) and "checkpoint" not in values and values.get("kind") in cls.shipped:
            return values | {"checkpoint": cls.shipped[values["kind"]]}
        return values


class RandomStyleConfig(StrictModel):
    """Random styles of model.kind multi_style: each input gets a mix of its own, which the manifest holds."""

    seed: int | None = None
    """Seed of the mixes, and the switch that turns them on; each is drawn from the seed and the path of the input."""
    mixes: PositiveInt | None = None
    """Styles that are mixed for each input, of style.names or of all; their shares are drawn, too. Default: 3."""


class StyleConfig(StrictModel):
    """Which style, and how much of it: style images for any_style, vit_adain and gatys, names for multi_style."""

    images: str | None = None
    """Style image, or a folder of style images: a path or a URI."""
    name: str | None = None
    """Name of a style of a multi_style checkpoint. Default: the one that model.checkpoint names, or its first."""
    names: list[str] = Field(default=[])
    """Names of the styles that style.mode or style.random takes: a,b,c. Default: all of the checkpoint."""
    blend: dict[str, float] = Field(default={})
    """Styles that are blended, with their shares, which sum to one: starry_night=0.7,great_wave=0.3."""
    random: RandomStyleConfig = RandomStyleConfig()
    text: StyleText | None = None
    """Words that a style is fitted to before the run, by CLIP, from a multi_style checkpoint: "an oil painting of
    waves". It takes clip.weights; OUTPUT/styles_from_text.safetensors keeps it for the next run."""
    strength: float = Field(default=1.0, ge=0, le=1)
    """Strength of the style: 0 is the input, 1 the full style, between them a share of each. vit_adain has style.alpha,
    gatys its weights."""
    stroke: int | None = Field(default=None, ge=64, le=8192)
    """Longer side in pixels at which frames are stylized, whatever size is written, with any model: smaller gives
    larger strokes, faster. The result is brought to full size along the edges of the input. Default: as written."""
    mode: Literal["one", "each", "random"] = "one"
    """one: the one style for all inputs; each: every style for every input, into OUTPUT/<style>/; random: one style
    drawn for each input, the same on every rerun."""
    alpha: float = Field(default=1.0, ge=0, le=1)
    """Strength of the style, for vit_adain: 0 reconstructs the input, 1 is the full style."""
    seed: int = 0
    """Seed of the draw of style.mode random; another seed deals the styles out anew."""
    preserve_color: bool = False
    """Keep the colors of the input and take only the style's light and dark, with any model."""
    side: int = Field(default=512, ge=32)
    """Shorter side in pixels to which style images are resized; larger gives larger strokes. any_style takes 256
    unless it is said."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        is_random = self.random.seed is not None
        chosen = {
            "style.name": self.name,
            "style.blend": self.blend,
            "style.random.seed": is_random,
            "style.text": self.text,
        }
        given = [key for key, value in chosen.items() if value]
        if len(given) > 1:
            raise ValueError(f"{given[0]} and {given[1]} exclude each other: leave one of them out")
        if given and self.mode != "one":
            instead = "style.names" if self.name else f"{given[0]} alone"
            raise ValueError(f"{given[0]} is one style, and style.mode is {self.mode}: give {instead}")
        if self.names and (self.name or self.blend or self.text):
            raise ValueError(f"{given[0]} and style.names exclude each other: leave one of them out")
        if not is_random and self.random != RandomStyleConfig():
            raise ValueError("style.random.mixes needs random styles: add --style.random.seed 0")
        return self


class ResizeConfig(StrictModel):
    """Size that is stylized and written; strokes scale with it."""

    max_side: int | None = Field(default=None, ge=16)
    """Longer side in pixels of what is written; smaller sources keep their size. Default: as the source."""


class DiscoveryConfig(StrictModel):
    """Which files of the input are taken for media."""

    look_inside: Literal["auto", "always", "never"] = "auto"
    """Look at the first bytes of files whose names say nothing, as those without an extension. auto: on a disk;
    always: in a bucket, too, with a request for each; never: such files are skipped."""
    hidden: bool = False
    """Take hidden files of a folder, too: those with a name, or a folder, that begins with a dot, and those in folders
    that systems keep for themselves (@eaDir, .Trash-1000)."""
    follow_links: bool = False
    """Read files that symbolic links in the input point to outside of it, and folders that links point to."""


class ImagesConfig(StrictModel):
    """How images are read, and stylized ones written."""

    max_megapixels: PositiveFloat = 300.0
    """Largest image that is read, in millions of pixels, each with about 8 MB of memory; a JPEG counts as it is
    decoded, with resize.max_side at down to an eighth of its width and height."""
    quality: int = Field(default=95, ge=1, le=100)
    """Quality of lossy formats (JPEG, WebP, AVIF); lower makes smaller files."""


class VideoConfig(StrictModel):
    """How videos are read, and stylized ones written; audio and subtitles are copied."""

    max_megapixels: PositiveFloat = 70.0
    """Largest frame of a video that is read, in millions of pixels, each with about 40 MB of memory."""
    codec: Literal["h264", "h265", "av1"] = "h264"
    """Codec of the video: h264 plays everywhere; h265 and av1 make smaller files and take longer."""
    encoder: Literal["software", "nvenc", "auto"] = "software"
    """software: x264, x265, SVT-AV1, the same bytes on any machine; nvenc: the encoder of an NVIDIA card, on every
    worker's machine; auto: nvenc where it starts on a GPU of the workers, else software, for all of the run."""
    crf: int | None = Field(default=None, ge=0, le=51)
    """Quality, lower is better; 5 more is about half the size. Default: visually lossless, h264 18, h265 20, av1 24."""
    bitrate_kbps: PositiveInt | None = None
    """Average bitrate of the frames in kbit/s, instead of crf."""
    preset: Literal["ultrafast", "veryfast", "fast", "medium", "slow", "veryslow"] = "medium"
    """Effort of the encoder; faster presets make larger files."""
    pixel_format: Literal["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p10le"] = "yuv420p"
    """Chroma subsampling and bit depth: yuv420p plays everywhere; 10 bit shows no bands in soft gradients."""
    hdr: Hdr = "tonemap"
    """High dynamic range (PQ, HLG): tonemap shows it as SDR does; keep writes it in 10 bits, of 8 that are stylized."""
    container: Literal["auto", "mp4", "mov", "mkv", "frames"] = "auto"
    """auto: as the source where it can hold the result, else mkv; mov holds no av1; frames: PNG folders, no sound."""
    keyframe_interval_s: PositiveFloat | None = None
    """Most seconds between keyframes: short to cut and scrub, long for small files. Default: every 250 frames."""
    side_by_side: bool = False
    """Write source and stylized frame beside each other, for review."""
    start_s: NonNegativeFloat = 0.0
    """Begin this many seconds into each video."""
    duration_s: PositiveFloat | None = None
    """Stylize at most this many seconds of each video, for a preview. Default: to its end."""
    max_frame_rate: PositiveFloat | None = None
    """Leave out frames above this rate, for a preview. Default: every frame."""
    keep_damaged: bool = False
    """Write what still decodes of a damaged video, with a note in its row, instead of failing it."""


class TemporalConfig(StrictModel):
    """How flicker is removed from videos; nothing is ever mixed across a scene cut."""

    mode: Literal["none", "gate", "ema", "window"] = "window"
    """none: every frame by itself; gate: pixels that did not change keep their style, no flow; ema: blend
    with the previous output, moved along the flow; window: mean over neighboring frames, moved along it."""
    radius: int = Field(default=3, ge=1, le=8)
    """Frames to each side that window takes in; more is steadier and softer."""
    weight: float = Field(default=0.7, ge=0, lt=1)
    """Share of the previous output in ema and gate; more is steadier and softer."""
    detail: float = Field(default=1.0, ge=0, le=1)
    """Share of the fine texture of single frames that is restored after averaging; 0 leaves it soft."""
    flow: Literal["auto", "dis", "lucas_kanade", "raft"] = "auto"
    """Optical flow between source frames. dis: OpenCV, on the CPU; lucas_kanade: torch, on model.device;
    raft: a network, on model.device; auto: lucas_kanade on a GPU, else dis."""
    flow_weights: str | None = None
    """File with weights of torchvision's raft_small, for flow raft. Default: its own, downloaded once."""
    flow_side: int = Field(default=480, ge=32)
    """Longer side in pixels at which flow is estimated; smaller is faster and misses small motion."""
    scene_threshold: float = Field(default=0.35, gt=0, le=1)
    """Difference of two neighboring frames above which they are a scene cut; 1 finds no cuts."""
    freeze_statistics: bool = False
    """Normalize all frames of a shot alike: contrast and colors do not pulsate. For johnson with instance norms."""


class UnitsConfig(StrictModel):
    """Size of a unit, which a worker processes and commits at once; a video in up to four styles is one, or several."""

    images: PositiveInt = 100
    """Images that a unit writes, of fewer files with style.mode each; 1000 on GPUs, for seconds to a minute of work."""
    segment_s: float = Field(default=120.0, ge=1)
    """Seconds of video in a unit; longer ones are cut at keyframes, to share and resume them, and come out the same."""


class ShardsConfig(StrictModel):
    """Shards, many images in one file: WebDataset tars and Parquet. Both are read anywhere; labels pass through."""

    format: Literal["auto", "files", "webdataset", "parquet"] = "auto"
    """auto: images as they came, in files or shards; webdataset, parquet: all in shards, for few objects."""
    target_mb: PositiveFloat = 100.0
    """Size in MB of a shard made from files, about: by the bytes of its sources."""
    image_column: str = "image"
    """Column of the images in Parquet shards: bytes, or Hugging Face's struct of bytes and path."""


class WorkersConfig(StrictModel):
    """Pool of workers: one process per device, each decodes, stylizes and encodes."""

    count: PositiveInt | None = None
    """Number of workers. Default: one per GPU, or one per node where there is none."""
    min_count: PositiveInt | None = None
    """Smallest number of workers of a pool that grows, with max_count. Default: 1."""
    max_count: PositiveInt | None = None
    """Largest number of workers on a cluster that grows, instead of count: the pool grows as nodes come."""
    gpus: float | None = Field(default=None, gt=0)
    """GPUs of each worker: 0.5 puts two on one. Default: 1 if the network runs on one, less if count exceeds them."""
    cpus: float | None = Field(default=None, gt=0)
    """CPU cores that each worker takes of its node. Default: the cores of a node shared out among its workers."""
    threads: PositiveInt | None = None
    """CPU threads of the network in each worker. Default: as many as it has cores."""
    attempts: int = Field(default=3, ge=1, le=10)
    """Times that an item which kills its worker, or hangs, is tried before it is recorded as crashed."""
    item_timeout_s: float = Field(default=600.0, ge=1)
    """Seconds without progress after which an item is given up: no image is finished, and no frame of a video, however
    long that is. The network's own time does not count; a large file gets a second more for each MB."""
    queue_frames: PositiveInt = 16
    """Frames that may wait between decoder, network and encoder; fewer save memory."""

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
    """Report that is written when the run is done."""

    pairs: NonNegativeInt = 12
    """Before/after pairs on the contact sheet; 0 for no sheet."""


class StylizeConfig(JobConfig):
    """Stylize every image and video under INPUT into OUTPUT, and account for every file."""

    epilog: ClassVar[str] = """\
    examples:
      nst-ops stylize --input photos --output out/photos
      nst-ops stylize --input clips --output out/clips --resize.max_side 720 --dry-run
      nst-ops stylize --config configs/celeba_to_anime.yaml --input faces --output out/anime
      nst-ops stylize --input s3://bucket/clips --output s3://bucket/identity --model.kind identity
      nst-ops stylize --input photos --output out/styled --model.checkpoint any_style --style.images painting.jpg
      nst-ops stylize --input photos --output out/each --model.checkpoint any_style --style.images FOLDER \\
        --style.mode each
      nst-ops stylize --input photos --output out/waves --model.checkpoint styles \\
        --style.text "an oil painting of waves" --clip.weights open_clip_model.safetensors

    Run the same command again after a stop or a crash: finished files are kept, the rest is done.
    exit codes: 0 all files ok, 3 finished with some files failed (see the manifest), 2 bad configuration, input
    or output, 1 stopped or fatal (disk full, Ray lost)."""
    input: str = Field(min_length=1)
    """Input, a path or a URI (s3://bucket/prefix): a folder, a file, a pattern ('in/**/*.jpg'), or a list of
    files (.txt, .csv, .tsv, .jsonl, .parquet). Tars and Parquet files in it are shards of images."""
    output: str = Field(min_length=1)
    """Folder to write: stylized files in the input's tree, manifest/, report/, run.json."""
    model: ModelConfig = ModelConfig()
    style: StyleConfig = StyleConfig()
    clip: ClipConfig = ClipConfig()
    text_fit: TextFitConfig = TextFitConfig()
    discovery: DiscoveryConfig = DiscoveryConfig()
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
    """Executor of the workers. local: processes on this machine, without Ray; ray: a Ray cluster; auto: Ray
    where a cluster is at hand (ray_address, RAY_ADDRESS, a running head, ray job submit), else local."""
    ray_address: str = "auto"
    """Address of the Ray cluster. With executor ray one starts here: for auto if none is at hand, for local always."""
    dry_run: bool = False
    """Stop after a table of what would be done: files, frames, collisions, devices, estimated time, size."""
    retry_failed: bool = False
    """Try items again that an earlier run recorded as failed or crashed. What such items need may be changed for it:
    video.keep_damaged, shards.image_column."""
    overwrite: bool = False
    """Let this run replace the output of another model or configuration."""
