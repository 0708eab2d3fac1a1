"""Encoders: which one writes a video, and its options. A new codec is an entry here, and its name in ``VideoConfig``.

The same frames give the same bytes on any machine, whatever its cores: x264 and x265 get a fixed number of threads,
and SVT-AV1 a single one where it aims at a bitrate, by which it would otherwise write another file at every run.
NVIDIA's encoders promise nothing of the kind, and some of its cards have none (H100, H200, A100), or none for AV1 (T4).
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.codec.codec import UnknownCodecError
from av.error import FFmpegError
from av.video.frame import VideoFrame

from nst_ops.config.stylize import VideoConfig
from nst_ops.media.formats import VIDEO_CONTAINERS
from nst_ops.media.video.container import container_takes
from nst_ops.media.video.hdr import Mastering

os.environ.setdefault("SVT_LOG", "0")  # SVT-AV1 writes to stderr past FFmpeg; errors reach us as exceptions

_EFFORTS = ("ultrafast", "veryfast", "fast", "medium", "slow", "veryslow")
_420 = {name: name for name in ("yuv420p", "yuv420p10le")}
_ALL = {name: name for name in (*_420, "yuv422p", "yuv422p10le", "yuv444p", "yuv444p10le")}


@dataclass(frozen=True)
class _MasteringKeys:
    """The mastering data of HDR as an encoder's own parameters."""

    option: str  # of FFmpeg that takes the encoder's parameters
    display: str
    light_level: str
    units: tuple[Fraction, Fraction] = (Fraction(1, 50000), Fraction(1, 10000))  # of x and y, and of cd/m2

    def parameters(self, mastering: Mastering) -> list[str]:
        """Return ``key=value`` of what is stated."""
        found = {self.display: mastering.display(*self.units)}
        if mastering.light_level:
            found[self.light_level] = "{},{}".format(*mastering.light_level)
        return [f"{key}={value}" for key, value in found.items() if value]


@dataclass(frozen=True)
class Encoder:
    """An encoder of FFmpeg in the terms of ``VideoConfig``."""

    name: str
    codec: str  # FFmpeg's name of the codec, as containers are asked for it
    default_crf: int
    pixel_formats: Mapping[str, str]  # keys: formats of ``VideoConfig`` that it takes; values: its own name for them
    presets: tuple[str, ...] = _EFFORTS  # its own names of the presets of ``VideoConfig``, from ultrafast to veryslow
    options: Mapping[str, str] = field(default_factory=dict)  # in any case
    crf_key: str = "crf"
    bitrate_options: Mapping[str, str] = field(default_factory=dict)  # where it aims at a bitrate
    max_frame_rate: Fraction = Fraction(1000)  # that it takes; the rate is a hint, the truth is in the PTS
    num_threads: int = 0  # 0 leaves it to the encoder, where they do not change what it writes
    mp4_tag: str = ""  # of the codec in MP4 and MOV; empty for FFmpeg's own
    loses_aspect_in: tuple[str, ...] = ()  # containers that do not keep the sample aspect ratio in their own stream
    mastering: _MasteringKeys | None = None  # how it takes the mastering data of HDR; None: not at all

    def format_for(self, config: VideoConfig, is_hdr: bool) -> str:
        """Return its pixel format: the one that is asked for, for HDR with 10 bits where it has that."""
        wanted = config.pixel_format.removesuffix("10le") + "10le" if is_hdr else config.pixel_format
        return self.pixel_formats.get(wanted) or self.pixel_formats[config.pixel_format]

    def options_for(
        self, config: VideoConfig, frame_rate: Fraction, mastering: Mastering | None = None
    ) -> dict[str, str]:
        """Return options by FFmpeg's names, for a video of this average frame rate."""
        options = {**self.options, "preset": self.presets[_EFFORTS.index(config.preset)]}
        if config.bitrate_kbps:
            options |= {"b": f"{config.bitrate_kbps}k", **self.bitrate_options}
        else:
            options[self.crf_key] = str(self.default_crf if config.crf is None else config.crf)
        if config.keyframe_interval_s:
            options["g"] = str(max(1, int(config.keyframe_interval_s * frame_rate)))
        if mastering and self.mastering:
            given = (options.get(self.mastering.option, ""), *self.mastering.parameters(mastering))
            options[self.mastering.option] = ":".join(filter(None, given))
        return {key: value for key, value in options.items() if value}


def _x264_options() -> dict[str, str]:
    """Keep x264 from its AVX-512 code, which writes other bytes at every run, as its AVX2 code does not."""
    cpu = Path("/proc/cpuinfo")
    return {"x264-params": "asm=avx2"} if cpu.exists() and "avx512" in cpu.read_text() else {}


# Closed groups can be cut anywhere; the info would name the processor in the file.
_X265 = {"x265-params": "log-level=error:open-gop=0:info=0"}
_SVT: Any = {
    "presets": ("9", "8", "7", "6", "4", "2"),  # faster ones show artifacts, it warns itself
    "options": {"g": "250"},
    "bitrate_options": {"svtav1-params": "lp=1"},
    "max_frame_rate": Fraction(240),
    "mastering": _MasteringKeys("svtav1-params", "mastering-display", "content-light", (Fraction(1), Fraction(1))),
}
_HVC1 = "hvc1"  # or Apple's players do not open it
_NVENC: Any = {"presets": ("p1", "p2", "p3", "p4", "p6", "p7"), "options": {"rc": "vbr", "b": "0"}, "crf_key": "cq"}
_NVENC_420 = {"yuv420p": "yuv420p", "yuv420p10le": "p010le"}
_NVENC_444 = {"yuv444p": "yuv444p", "yuv444p10le": "yuv444p16le"}

ENCODERS = {
    # (video.encoder, video.codec): encoder
    ("software", "h264"): Encoder(
        *("libx264", "h264", 18, _ALL),
        options=_x264_options(),
        num_threads=4,
        mastering=_MasteringKeys("x264-params", "mastering-display", "cll"),
    ),
    ("software", "h265"): Encoder(
        *("libx265", "hevc", 20, _ALL),
        options=_X265,
        num_threads=4,
        mp4_tag=_HVC1,
        mastering=_MasteringKeys("x265-params", "master-display", "max-cll"),
    ),
    ("software", "av1"): Encoder("libsvtav1", "av1", 24, _420, loses_aspect_in=("matroska",), **_SVT),
    ("nvenc", "h264"): Encoder("h264_nvenc", "h264", 18, {n: n for n in ("yuv420p", "yuv444p")}, **_NVENC),
    ("nvenc", "h265"): Encoder("hevc_nvenc", "hevc", 20, _NVENC_420 | _NVENC_444, mp4_tag=_HVC1, **_NVENC),
    ("nvenc", "av1"): Encoder("av1_nvenc", "av1", 24, _NVENC_420, loses_aspect_in=("matroska",), **_NVENC),
}


def settled(config: VideoConfig) -> VideoConfig:
    """Return ``config`` with what ``encoder auto`` comes to on this machine: nvenc where it starts, else software."""
    if config.encoder != "auto":
        return config
    return config.model_copy(update={"encoder": "software" if nvenc_problem(config) else "nvenc"})


def nvenc_problem(config: VideoConfig) -> str:
    """Return why NVENC does not write what ``config`` asks for on this machine; nothing where it does."""
    encoder = ENCODERS["nvenc", config.codec]
    if config.pixel_format not in encoder.pixel_formats:
        return f"{encoder.name} takes no {config.pixel_format}"
    return _problem(encoder, config)


def encoder_for(config: VideoConfig) -> Encoder:
    """Return the encoder that ``config`` asks for, whether or not it starts on this machine."""
    return ENCODERS[settled(config).encoder, config.codec]


def choose_encoder(config: VideoConfig) -> Encoder:
    """Return the encoder that ``config`` asks for; ValueError if it does not start on this machine."""
    encoder = encoder_for(config)
    if problem := _problem(encoder, config):
        raise ValueError(
            f"video.encoder {config.encoder}: {encoder.name} does not start on this machine with these "
            f"video keys ({problem}): set another encoder, codec, preset or bitrate"
        )
    return encoder


def open_encoder(context: Any) -> None:
    """Open a codec context; raises FFmpegError.

    Where the process is root, SVT-AV1 makes its threads and the one that opens it real-time ones, and the rest of the
    machine stands still while it works: they get back the scheduling of before.
    """
    if not hasattr(os, "sched_setscheduler"):  # not on macOS, whose FFmpeg leaves it alone
        context.open()
        return
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        context.open()
    finally:
        if os.sched_getscheduler(0) != before[0]:
            for thread_id in os.listdir("/proc/self/task"):
                with contextlib.suppress(OSError):  # it has just ended
                    os.sched_setscheduler(int(thread_id), *before)


def check_encoder(config: VideoConfig) -> None:
    """Raise ValueError before any work if the video keys do not go together, or the encoder does not start.

    Whether a GPU's encoder starts is seen on the workers' machines: this one may have no GPU.
    """
    if config.container == "frames":
        return
    if config.crf is not None and config.bitrate_kbps:
        raise ValueError("video.crf and video.bitrate_kbps exclude each other: set one of them")
    encoder = encoder_for(config)
    container = VIDEO_CONTAINERS.get(f".{config.container}")
    if container and not container_takes(container, (encoder.codec,)):
        raise ValueError(f"video.container {config.container} holds no {config.codec}: set it to mp4, mkv or auto")
    if config.pixel_format not in encoder.pixel_formats:
        formats = " or ".join(encoder.pixel_formats)
        raise ValueError(f"video.pixel_format {config.pixel_format}: {encoder.name} takes only {formats}")
    if settled(config).encoder == "software":
        choose_encoder(config)


def _problem(encoder: Encoder, config: VideoConfig) -> str:
    """Try an encoder with the options of ``config``; return what goes wrong, or nothing."""
    options = tuple(encoder.options_for(config, Fraction(25)).items())
    return _try(encoder.name, encoder.pixel_formats[config.pixel_format], options)


@functools.cache
def _try(name: str, pixel_format: str, options: tuple[tuple[str, str], ...]) -> str:
    """Encode a small frame; return what goes wrong, or nothing."""
    width, height = 320, 192  # some GPUs take nothing below 160
    try:
        context: Any = av.CodecContext.create(name, "w")
        context.width, context.height, context.pix_fmt = width, height, pixel_format
        context.framerate, context.time_base = Fraction(25), Fraction(1, 25)
        context.options = dict(options)
        open_encoder(context)
        frame = VideoFrame(width, height, pixel_format)
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        frame.pts = 0
        num_packets = len(context.encode(frame)) + len(context.encode(None))
    except UnknownCodecError:
        return "this FFmpeg was built without it"
    except FFmpegError as error:
        return error.strerror or type(error).__name__
    return "" if num_packets else "it writes nothing"
