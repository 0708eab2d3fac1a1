"""Typed, strict configuration: a YAML file plus ``--a.b value`` overrides.

A key that does not exist, a missing path or a wrong type is one clear line on standard
error and exit code 2, never a traceback and never a default in silence.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, CliSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict


class ConfigError(ValueError):
    """A configuration, input or output that cannot be run; the message is for a person."""


class StrictModel(BaseModel):
    """A section of a configuration in which an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class ModelConfig(StrictModel):
    """The network that paints."""

    kind: Literal["johnson", "identity"] = "johnson"
    """johnson: a trained feed-forward network; identity: no change, to measure the pipeline alone."""
    checkpoint: str = "starry_night"
    """A shipped style by name, or the path of a checkpoint (.safetensors, .pth)."""
    device: str = "auto"
    """auto (a GPU if there is one), cpu, cuda, cuda:1."""
    precision: Literal["auto", "fp32", "fp16", "bf16"] = "auto"
    """auto: fp16 on a GPU, fp32 on a CPU."""
    batch_size: PositiveInt = 4
    """Frames, or images of one size, that the network takes at once."""


class ResizeConfig(StrictModel):
    """The size that is stylized and written; strokes scale with it."""

    max_side: int | None = Field(default=None, ge=16)
    """Longer side in pixels of what is written; smaller sources stay as they are. Default: as the source."""


class ImagesConfig(StrictModel):
    """How stylized images are written."""

    quality: int = Field(default=95, ge=1, le=100)
    """Quality of lossy formats (JPEG, WebP, AVIF)."""


class VideoConfig(StrictModel):
    """How stylized videos are written: H.264, 4:2:0, audio and subtitles copied."""

    crf: int = Field(default=18, ge=0, le=51)
    """Constant rate factor of x264: 18 is visually lossless, 23 half the size."""
    preset: Literal["ultrafast", "veryfast", "fast", "medium", "slow", "veryslow"] = "medium"
    """Encoder effort: faster presets write larger files."""
    keep_damaged: bool = False
    """Write what still decodes of a damaged video, with a note, instead of failing it."""


class UnitsConfig(StrictModel):
    """What one call of a worker processes and commits at once."""

    images: PositiveInt = 100
    """Images in a unit. A video is a unit of its own."""


class WorkersConfig(StrictModel):
    """The pool of workers: one process per device, each decodes, stylizes and encodes."""

    count: PositiveInt | None = None
    """Workers. Default: one per GPU of the cluster, or one where there is none."""
    threads: PositiveInt | None = None
    """CPU threads of the network in each worker. Default: the cores shared out among the workers."""
    attempts: int = Field(default=3, ge=1, le=10)
    """Times an item is tried that kills its worker, before it is recorded as crashed."""
    queue_frames: PositiveInt = 16
    """Frames that may wait between decoder and network, and between network and encoder."""


class ReportConfig(StrictModel):
    """What is drawn when the run is done."""

    pairs: NonNegativeInt = 12
    """Before/after pairs on the contact sheet; 0 for no sheet."""


class JobConfig(BaseSettings):
    """The base of a job's configuration."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only the file and the command line: no stray environment variable changes a run."""
        return (init_settings,)


class StylizeConfig(JobConfig):
    """Stylize every image and video under INPUT into OUTPUT, and account for every file."""

    input: str = Field(min_length=1)
    """Folder or file to read: a path or a URI (s3://bucket/prefix)."""
    output: str = Field(min_length=1)
    """Folder to write: stylized files in the input's tree, manifest/, report/, run.json."""
    model: ModelConfig = ModelConfig()
    resize: ResizeConfig = ResizeConfig()
    images: ImagesConfig = ImagesConfig()
    video: VideoConfig = VideoConfig()
    units: UnitsConfig = UnitsConfig()
    workers: WorkersConfig = WorkersConfig()
    report: ReportConfig = ReportConfig()
    ray_address: str = "auto"
    """auto joins the cluster at hand or starts Ray on this machine; local always starts one."""
    dry_run: bool = False
    """Stop after the preflight table: files, frames, collisions, devices, estimated time and size."""
    retry_failed: bool = False
    """Try items again that an earlier run recorded as failed or crashed."""
    overwrite: bool = False
    """Let this run replace the output of another model or configuration."""


_EPILOG = """\
Any key may stand in the file or on the command line; the command line wins.

examples, each after `python jobs/stylize_dataset.py --config configs/demo.yaml`:
  --input photos --output out/photos
  --input clips --output out/clips --resize.max_side 720
  --input clips --output out/clips --dry-run
  --input s3://bucket/clips --output s3://bucket/identity --model.kind identity

Run the same command again after a stop or a crash: finished files are kept, the rest is done.
exit codes: 0 all files ok, 3 finished with some files failed (see the manifest), 2 bad
configuration, input or output, 1 fatal (disk full, Ray lost).
"""

ConfigT = TypeVar("ConfigT", bound=JobConfig)


def parse_config(
    config_class: type[ConfigT], argv: Sequence[str] | None = None, epilog: str = _EPILOG
) -> ConfigT:
    """Read ``--config FILE`` and ``--a.b value`` overrides into ``config_class``.

    Prints one line and exits with code 2 if anything does not fit; ``--help`` exits with 0.
    """
    argv = _normalise(sys.argv[1:] if argv is None else list(argv), config_class)
    parser = _Parser(
        description=config_class.__doc__,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", metavar="FILE", help="YAML file with any of the keys below")
    cli: CliSettingsSource[Any] = CliSettingsSource(
        config_class,
        cli_parse_args=argv,
        root_parser=parser,
        cli_implicit_flags=True,
        cli_avoid_json=True,
        cli_hide_none_type=True,
        cli_parse_none_str="null",
    )
    try:
        path = _config_path(argv)
        from_file = _read_yaml(Path(path)) if path else {}
        return config_class(**_merge(from_file, cli()))
    except (ConfigError, ValidationError) as error:
        message = explain(error, config_class) if isinstance(error, ValidationError) else str(error)
        parser.error(message)


def explain(error: ValidationError, config_class: type[BaseModel]) -> str:
    """One line for a person: which key, what is wrong, and what was probably meant."""
    parts = []
    for item in error.errors(include_url=False):
        key = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            near = difflib.get_close_matches(key, [name for name, _ in _keys(config_class)], n=1, cutoff=0.6)
            parts.append(f"unknown key '{key}'" + (f", did you mean '{near[0]}'?" if near else ""))
        elif item["type"] == "missing":
            parts.append(f"'{key}' is required: give --{key} or put it into the file")
        else:
            what = item["msg"].removeprefix("Value error, ")
            parts.append(f"'{key}': {what[0].lower()}{what[1:]} (got {item['input']!r})")
    return "; ".join(parts)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, with a suggestion for an option that does not exist."""
        if message.startswith("unrecognized arguments: "):
            wrong = message.removeprefix("unrecognized arguments: ").split()[0]
            near = difflib.get_close_matches(wrong, list(self._option_string_actions), n=1, cutoff=0.6)
            message = f"unknown option '{wrong}'" + (
                f", did you mean '{near[0]}'?" if near else "; see --help"
            )
        self.exit(2, f"error: {message}\n")


def _normalise(argv: list[str], config_class: type[BaseModel]) -> list[str]:
    """Let ``--dry-run`` be ``--dry_run``, and ``--dry_run true`` or ``=false`` mean what they say."""
    switches = {f"--{key}" for key, kind in _keys(config_class) if kind is bool}
    normal: list[str] = []
    for arg in argv:
        if arg.startswith("--") and arg != "--":
            prefix, head = ("--no-", arg[5:]) if arg.startswith("--no-") else ("--", arg[2:])
            head, equals, value = head.partition("=")
            option = prefix + head.replace("-", "_")
            if option in switches and equals:
                normal.append(_switched(option, value) or arg)
            else:
                normal.append(option + equals + value)
        elif normal and normal[-1] in switches and (switched := _switched(normal[-1], arg)):
            normal[-1] = switched
        else:
            normal.append(arg)
    return normal


def _switched(option: str, value: str) -> str | None:
    return {"true": option, "false": f"--no-{option[2:]}"}.get(value.lower())


def _config_path(argv: list[str]) -> str | None:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config")
    path: str | None = parser.parse_known_args(argv)[0].config
    return path


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"no configuration file at '{path}'; ready-made ones are in configs/") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read '{path}': {error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"'{path}' is not valid YAML: {' '.join(str(error).split())}") from error
    if loaded is not None and not isinstance(loaded, dict):
        raise ConfigError(f"'{path}' must hold keys and values, not a {type(loaded).__name__}")
    return loaded or {}


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """``over`` laid on ``base``, section by section."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Every key of ``model`` with its type, sections included, as ``a.b``."""
    for name, info in model.model_fields.items():
        yield prefix + name, info.annotation
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            yield from _keys(info.annotation, f"{prefix}{name}.")


class PerceptualLossConfig(StrictModel):
    """What the network is asked for: the photograph's content in the painting's manner."""

    content_tap: str = "relu3_1"
    """VGG layer at which the photograph is compared; deeper ones leave the strokes more freedom."""
    content_weight: float = Field(default=1.0, ge=0)
    """Weight of the content term, a relative squared error."""
    style_taps: dict[str, float] = {"relu1_2": 1.0, "relu2_2": 1.0, "relu3_1": 1.0, "relu3_4": 1.0}
    """VGG layers at which correlations are compared, with their weights."""
    style_scales: dict[float, float] = {1.0: 1.0, 0.5: 1.0, 0.25: 1.0}
    """Scales of the picture at which style is compared, with their weights; small ones see large forms."""
    style_weight: float = Field(default=40.0, ge=0)
    """Weight of the style term, a relative squared error of Gram matrices."""
    variation_weight: float = Field(default=0.1, ge=0)
    """Weight of the mean squared difference between neighbouring pixels."""


class TrainJohnsonConfig(JobConfig):
    """Train a Johnson network on PHOTOS to paint like STYLE; checkpoint, curves and grids go to OUTPUT."""

    photos: str = Field(min_length=1)
    """Folder of photographs; a few hundred will do."""
    style: str = Field(min_length=1)
    """Picture of the painting."""
    output: str = Field(min_length=1)
    """Folder to write: model.safetensors, losses.json, losses.png, grid_*.png."""
    start_from: str | None = None
    """Checkpoint to go on from. Default: fresh weights."""
    width: PositiveInt = 32
    """Channels of the first layer of a fresh network; 32 is the published one."""
    num_blocks: PositiveInt = 5
    """Residual blocks of a fresh network."""
    vgg: Literal["vgg16", "vgg19"] = "vgg19"
    """The network that judges."""
    vgg_weights: str | None = None
    """File with its weights. Default: torchvision's, downloaded once."""
    loss: PerceptualLossConfig = PerceptualLossConfig()
    style_side: int = Field(default=448, ge=32)
    """Shorter side of the painting in pixels: twice as large gives strokes twice as large."""
    style_margin: float = Field(default=0.0, ge=0, lt=0.5)
    """Share of the painting to cut off at each side, such as bare canvas."""
    photo_side: int = Field(default=288, ge=32)
    """Shorter side to which photographs are resized."""
    crop: int = Field(default=256, ge=32, multiple_of=4)
    """Side of the random square crops, at most photo_side."""
    batch_size: PositiveInt = 4
    """Crops per step."""
    steps: int = Field(default=2000, ge=2)
    """Optimisation steps; the learning rate rises and falls once over them."""
    learning_rate: float = Field(default=2e-3, gt=0)
    """Peak of the one-cycle schedule of Adam."""
    clip_norm: float = Field(default=1.0, gt=0)
    """Upper bound of the gradient's norm."""
    ema_decay: float = Field(default=0.0, ge=0, lt=1)
    """Average the weights that are saved over about 1 / (1 - decay) steps; 0 saves the last ones."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the loss network: bf16 is faster where the processor has it; the trained network stays in fp32."""
    device: str = "auto"
    """auto (a GPU if there is one), cpu, cuda, cuda:1."""
    threads: PositiveInt | None = None
    """CPU threads. Default: torch's."""
    seed: int = 0
    """Of the fresh weights and of the order of photographs."""
    save_every: PositiveInt = 250
    """Steps between checkpoints and grids."""
    facts: dict[str, str] = {}
    """What the checkpoint should say of its origin: style, painter, data and its terms, licence."""

    @field_validator("crop")
    @classmethod
    def _fits(cls, crop: int, info: ValidationInfo) -> int:
        if crop > info.data.get("photo_side", crop):
            raise ValueError(f"larger than photo_side, {info.data['photo_side']}")
        return crop
