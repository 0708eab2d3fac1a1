"""Animated images as videos without sound."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Self

import numpy as np
from PIL import Image

from nst_ops.media.errors import UnreadableImageError
from nst_ops.media.video.color import LIMITED, Color
from nst_ops.media.video.container import Frame, VideoInfo, even_size

_DEFAULT_DELAY_MS = 100  # what browsers take for delays of up to 10 ms


class AnimationReader:
    """Frames of an animated GIF, WebP, PNG or AVIF, composed by Pillow over white.

    The same interface as ``VideoReader``; the time base is a millisecond.

    Raises:
        UnreadableImageError: on opening, or while iterating over damaged frames.
    """

    num_damaged = 0

    def __init__(self, path: str, max_side: int | None = None) -> None:
        try:
            self._image = Image.open(path)
            self._num_frames: int = getattr(self._image, "n_frames", 1)
            # An animated PNG may begin with a still for viewers that know no better.
            self._first = int(bool(self._image.info.get("default_image")))
            durations = [self._duration_ms(index) for index in range(self._first, self._num_frames)]
        except Exception as error:
            raise UnreadableImageError(
                f"damaged animation: {error}: copy it again from its origin"
            ) from error
        self._durations_ms = durations
        total_ms = sum(durations)
        self.info = VideoInfo(
            width=self._image.width,
            height=self._image.height,
            time_base=Fraction(1, 1000),
            frame_rate=Fraction(1000 * len(durations), total_ms),
            duration_s=total_ms / 1000,
            rotation=0,
            sample_aspect_ratio=None,
            color=Color(matrix=1, range=LIMITED),
            video_codec=str(self._image.format).lower(),
            audio_codecs=(),
        )
        self.output_size = even_size((self._image.width, self._image.height), max_side)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the file."""
        self._image.close()

    def frames(self) -> Iterator[Frame]:
        """Every frame once, with its delay as its duration."""
        pts = 0
        for index, duration_ms in enumerate(self._durations_ms, self._first):
            try:
                self._image.seek(index)
                picture = self._image.convert("RGBA")
            except Exception as error:
                raise UnreadableImageError(f"damaged at frame {index}: {error}: copy it again") from error
            canvas = Image.new("RGBA", picture.size, "white")
            canvas.alpha_composite(picture)
            rgb = canvas.convert("RGB")
            if self.output_size[0] < rgb.width or self.output_size[1] < rgb.height:
                rgb = rgb.resize(self.output_size, Image.Resampling.LANCZOS)
            yield Frame(pts, duration_ms, np.asarray(rgb))
            pts += duration_ms

    def _duration_ms(self, index: int) -> int:
        self._image.seek(index)
        self._image.load()
        delay = round(float(self._image.info.get("duration", 0)))
        return delay if delay > 10 else _DEFAULT_DELAY_MS
