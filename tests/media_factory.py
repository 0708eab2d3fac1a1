"""Images and videos for tests, made here from scikit-image's own images; real ones where there are any."""

from __future__ import annotations

import functools
import io
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import skimage.data
from av.sidedata.sidedata import Type
from av.stream import Disposition
from av.video.frame import VideoFrame
from PIL import Image

from nst_ops.media.video.encoders import open_encoder

REAL_DATA = Path(__file__).parents[2] / "shared" / "data"
"""Real files beside the repository, where somebody has put some; most tests do without."""

LOSSLESS = {"qp": "0", "preset": "ultrafast"}
"""Options of libx264 under which decoding gives back the planes that went in."""

BT709, BT601 = 1, 6
LIMITED, FULL = 1, 2
BT2020 = 9
MASTERING = "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50):max-cll=800,200"
"""Display and light of ``hdr_video`` as x265 takes them: up to 1000 cd/m2, at most 800."""
TEXT_CODECS = {".mp4": "mov_text", ".mov": "mov_text", ".mkv": "subrip"}
_KR_KB = {BT709: (0.2126, 0.0722), BT601: (0.299, 0.114)}


def real_files(folder: str) -> list[Any]:
    """Parameters: every file of a folder of the real data, or one that is skipped."""
    files = sorted((REAL_DATA / folder).glob("*"))
    if not files:
        return [pytest.param(None, marks=pytest.mark.skip(reason="no real data here"), id="none")]
    return [pytest.param(path, id=path.name) for path in files]


@functools.cache
def natural_image(name: str, width: int, height: int) -> Image.Image:
    """Return an image that comes with scikit-image: astronaut, coffee, chelsea, rocket, hubble_deep_field."""
    image = Image.fromarray(getattr(skimage.data, name)())
    return image.resize((width, height), Image.Resampling.LANCZOS)


def moving_frames(num_frames: int, width: int, height: int) -> list[np.ndarray]:
    """(H, W, 3) uint8 views of the astronaut, panning a few pixels a frame."""
    around = np.asarray(natural_image("astronaut", width + 64, height + 64))
    offsets = [(round(30 + 30 * np.sin(n / 5)), round(30 + 30 * np.cos(n / 5))) for n in range(num_frames)]
    return [np.ascontiguousarray(around[y : y + height, x : x + width]) for y, x in offsets]


def colored_clouds(num_frames: int, width: int, height: int) -> list[np.ndarray]:
    """(H, W, 3) uint8 images of strong, soft colors: halved chroma takes nearly nothing from them."""
    coarse = np.random.default_rng(0).integers(0, 256, (num_frames, 3, 5, 3), dtype=np.uint8)
    return [np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)) for small in coarse]


def to_yuv(rgb_hwc: np.ndarray, matrix: int, color_range: int) -> np.ndarray:
    """ITU-T H.273 in float64, independent of FFmpeg: planar 4:2:0 as one (H * 3 / 2, W) uint8 array."""
    kr, kb = _KR_KB[matrix]
    r, g, b = (rgb_hwc[..., i].astype(np.float64) / 255 for i in range(3))
    luma = kr * r + (1 - kr - kb) * g + kb * b
    chroma = [(b - luma) / (2 - 2 * kb), (r - luma) / (2 - 2 * kr)]
    low, scale, chroma_scale = (0, 255, 255) if color_range == FULL else (16, 219, 224)
    height, width = luma.shape
    halved = [plane.reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3)) for plane in chroma]
    planes = [low + scale * luma, *(128 + chroma_scale * plane for plane in halved)]
    flat = np.concatenate([plane.ravel() for plane in planes])
    return flat.round().clip(0, 255).astype(np.uint8).reshape(height * 3 // 2, width)


def yuv_frames(images: Iterable[np.ndarray], matrix: int, color_range: int) -> list[VideoFrame]:
    """Frames of ``to_yuv`` planes; nothing else touches their color."""
    planes = (to_yuv(image, matrix, color_range) for image in images)
    return [VideoFrame.from_ndarray(plane, format="yuv420p") for plane in planes]


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio of two uint8 arrays, in dB."""
    error = np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)
    return float("inf") if error == 0 else 10 * np.log10(255**2 / error)


@dataclass(frozen=True)
class Sound:
    """A tone of its own pitch."""

    codec: str = "aac"
    duration_s: float = 1.0
    hertz: float = 440.0
    rate: int = 48000
    language: str = ""
    title: str = ""


def write_video(
    path: Path,
    frames: Sequence[VideoFrame | np.ndarray],
    *,
    pts: Sequence[int] | None = None,
    time_base: Fraction = Fraction(1, 25),
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    color: dict[str, int] | None = None,
    rotation: int = 0,
    mirrored: tuple[bool, bool] = (False, False),
    aspect: Fraction | None = None,
    sounds: Sequence[Sound] = (),
    subtitles: Sequence[tuple[float, float, str]] = (),
    cover: bytes = b"",
    metadata: dict[str, str] | None = None,
    language: str = "",
    stream_metadata: dict[str, str] | None = None,
    chapters: Sequence[tuple[int, int, str]] = (),
    container_options: dict[str, str] | None = None,
) -> Path:
    """Write a video; the container follows the extension of ``path``.

    Args:
        path: file to write.
        frames: frames as they are encoded, or (H, W, 3) uint8 images.
        pts: presentation times in ``time_base``; default 0, 1, 2, ...
        time_base: unit of ``pts``.
        codec: encoder of the frames.
        pix_fmt: its pixel format.
        options: its options.
        color: tags of the stream by PyAV's names: colorspace, color_range, color_trc, color_primaries.
        rotation: degrees counter-clockwise that turn a stored frame upright.
        mirrored: whether it is then mirrored left to right, and top to bottom.
        aspect: sample aspect ratio.
        sounds: one audio stream each.
        subtitles: (start, end, text) in seconds, as one text stream.
        cover: a JPEG to attach.
        metadata: tags of the file.
        language: language of the video stream.
        stream_metadata: tags of the video stream.
        chapters: (start, end, title) in milliseconds.
        container_options: options of the muxer.
    """
    pts = range(len(frames)) if pts is None else pts
    tags = color or {}
    first = frames[0]
    width, height = (first.width, first.height) if isinstance(first, VideoFrame) else first.shape[1::-1]
    with av.open(f"file:{path}", "w", options=container_options or {}) as output:
        output.metadata.update(metadata or {})
        output.set_chapters([_chapter(index, *chapter) for index, chapter in enumerate(chapters)])
        stream: Any = output.add_stream(codec, rate=25)
        stream.options = options if options is not None else LOSSLESS if codec == "libx264" else {}
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.codec_context.time_base = stream.time_base = time_base
        if language:
            stream.metadata["language"] = language
        stream.metadata.update(stream_metadata or {})
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        if rotation or any(mirrored):
            stream.set_display_rotation(rotation, *mirrored)
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)
        tones = [_add_sound(output, sound) for sound in sounds]
        text = output.add_mux_stream(TEXT_CODECS[path.suffix]) if subtitles else None
        if cover:
            _add_cover(output, cover)
        if not stream.codec_context.is_open:  # cover art begins the file
            open_encoder(stream.codec_context)
        for frame, time in zip(frames, pts, strict=True):
            coded = frame if isinstance(frame, VideoFrame) else VideoFrame.from_ndarray(frame, "rgb24")
            if coded.format.name != pix_fmt:
                coded = coded.reformat(format=pix_fmt)
            coded.pts, coded.time_base = time, time_base
            for name in tags.keys() & {"colorspace", "color_range"}:
                setattr(coded, name, tags[name])
            output.mux(stream.encode(coded))
        output.mux(stream.encode(None))
        for tone, sound in zip(tones, sounds, strict=True):
            _write_sound(output, tone, sound)
        for start, end, line in subtitles:
            _write_line(output, text, start, end, line)
    return path


def hdr_video(path: Path, transfer: int, num_frames: int = 5) -> Path:
    """Write 10-bit H.265 in BT.2020 of a transfer, 16 (PQ) or 18 (HLG), with ``MASTERING``."""
    tags = {"colorspace": BT2020, "color_range": 1, "color_trc": transfer, "color_primaries": BT2020}
    options = {"preset": "ultrafast", "g": "10", "x265-params": f"log-level=error:{MASTERING}"}
    frames = moving_frames(num_frames, 64, 48)
    return write_video(path, frames, codec="libx265", pix_fmt="yuv420p10le", options=options, color=tags)


def cc_data(number: int) -> bytes:
    """Closed captions of a frame: two characters of CEA-608, and zeros that look like a start code."""
    return bytes([0xFC, 0x80 | 0x41 + number % 26, 0x80 | 0x61 + number % 26, 0xFD, 0, 0, 0xFA, 0, 0, 0xFA, 0, 1])


def captioned_video(path: Path, num_frames: int) -> Path:
    """Write MPEG-2 as a broadcaster does, with captions as user data of each picture (ATSC A/53)."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("mpeg2video", rate=25, options={"g": "10", "bf": "2", "qscale": "4"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 25)
        frames = [av.VideoFrame.from_ndarray(image, "rgb24") for image in moving_frames(num_frames, 64, 48)]
        for number, frame in enumerate(frames):
            frame.pts = number
        for packet in itertools.chain.from_iterable(stream.encode(frame) for frame in (*frames, None)):
            data = bytes(packet)
            slice_start = data.index(b"\0\0\1\1")
            number = round(packet.pts * packet.time_base * 25)
            user_data = b"\0\0\1\xb2GA94\x03" + bytes([0x44, 0xFF]) + cc_data(number) + b"\xff"
            captioned = av.Packet(data[:slice_start] + user_data + data[slice_start:])
            captioned.stream, captioned.time_base, captioned.is_keyframe = stream, packet.time_base, packet.is_keyframe
            captioned.pts, captioned.dts, captioned.duration = packet.pts, packet.dts, packet.duration
            output.mux(captioned)
    return path


def captions(path: Path) -> list[bytes]:
    """Closed captions of every frame, as a decoder finds them."""
    found = [frame.side_data.get(Type.A53_CC) for frame in decoded(path)]
    return [b"" if each is None else bytes(each) for each in found]


def _chapter(index: int, start_ms: int, end_ms: int, title: str) -> Any:
    milliseconds = {"time_base": Fraction(1, 1000), "start": start_ms, "end": end_ms}
    return {"id": index + 1, **milliseconds, "metadata": {"title": title}}


def _add_sound(output: Any, sound: Sound) -> Any:
    stream = output.add_stream(sound.codec, rate=sound.rate, layout="mono")
    stream.metadata.update({k: v for k, v in (("language", sound.language), ("title", sound.title)) if v})
    return stream


def _write_sound(output: Any, stream: Any, sound: Sound) -> None:
    times = np.arange(round(sound.duration_s * sound.rate)) / sound.rate
    wave = (0.3 * np.sin(2 * np.pi * sound.hertz * times)).astype(np.float32)
    frame = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = sound.rate, 0, Fraction(1, sound.rate)
    output.mux(stream.encode(frame))
    output.mux(stream.encode(None))


def _write_line(output: Any, stream: Any, start_s: float, end_s: float, line: str) -> None:
    text = line.encode()
    is_mov_text = output.format.name in ("mp4", "mov")
    packet = av.Packet(len(text).to_bytes(2, "big") + text if is_mov_text else text)
    packet.stream, packet.time_base = stream, Fraction(1, 1000)
    packet.pts = packet.dts = round(start_s * 1000)
    packet.duration = round((end_s - start_s) * 1000)
    output.mux(packet)


def _add_cover(output: Any, jpeg: bytes) -> None:
    with av.open(io.BytesIO(jpeg), format="jpeg_pipe") as source:
        stream = output.add_stream_from_template(source.streams.video[0])
        stream.disposition = Disposition.attached_pic
        packet = next(source.demux())
        packet.stream, packet.pts, packet.dts = stream, 0, 0
        output.mux(packet)


@dataclass(frozen=True)
class Packet:
    """A packet as a file holds it, its times in seconds."""

    pts_s: float
    data: bytes


def packets(path: Path, kind: str) -> list[list[Packet]]:
    """Return the packets of each stream of a kind: audio or subtitle."""
    with av.open(f"file:{path}") as container:
        chosen = [stream for stream in container.streams if stream.type == kind]
        found: dict[int, list[Packet]] = {stream.index: [] for stream in chosen}
        for packet in container.demux(chosen) if chosen else ():
            if packet.size:
                found[packet.stream.index].append(Packet(float(packet.pts * packet.time_base), bytes(packet)))
    return list(found.values())


def decoded(path: Path) -> list[VideoFrame]:
    """Every frame of the first video stream, straight from FFmpeg."""
    with av.open(f"file:{path}") as container:
        return list(container.decode(container.streams.video[0]))


def times(path: Path) -> list[Fraction]:
    """Presentation time of every frame in seconds, exactly."""
    return [frame.pts * frame.time_base for frame in decoded(path)]
