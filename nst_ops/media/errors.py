"""Errors of media files. The class name is the manifest's ``error_type``."""

from __future__ import annotations


class MediaError(Exception):
    """A file cannot be stylized; the message says why and what a person can do."""


class EmptyFileError(MediaError):
    """The file has zero bytes."""


class UnreadableImageError(MediaError):
    """The image is damaged, truncated or not an image at all."""


class UnreadableVideoError(MediaError):
    """The file does not open as a video, or has no video stream or no frame."""


class DamagedVideoError(MediaError):
    """A part of the video does not decode."""


class UnreadableShardError(MediaError):
    """The shard is damaged, cut off, not what its extension says, or without a place for images."""


class MissingEndError(UnreadableShardError):
    """The shard lacks the mark at its end, and nothing else as far as can be told: all of its samples were read."""


class UnsupportedMediaError(MediaError):
    """The file is healthy, but of a kind that is not stylized, such as a multi-page document."""


class TooLargeError(MediaError):
    """The image does not fit into the memory at hand."""


class NetworkError(MediaError):
    """The network does not take this image, though it takes others."""


class OutputCollisionError(MediaError):
    """The output of the file would be that of another file."""
