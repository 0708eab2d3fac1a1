"""What can be wrong with a media file. The class name is the manifest's ``error_type``."""

from __future__ import annotations


class MediaError(Exception):
    """A file that cannot be stylized; the message says why and what a person can do."""


class EmptyFileError(MediaError):
    """A file of zero bytes."""


class UnreadableImageError(MediaError):
    """An image that is damaged, truncated or not an image at all."""


class UnreadableVideoError(MediaError):
    """A file that does not open as a video, or has no picture stream or no frame."""


class DamagedVideoError(MediaError):
    """A video of which a part does not decode."""


class UnreadableShardError(MediaError):
    """A shard that is damaged, cut off, not what its extension says, or without a place for images."""


class UnsupportedMediaError(MediaError):
    """A healthy file of a kind that is not stylized, such as a multi-page document."""


class TooLargeError(MediaError):
    """A picture that does not fit into the memory at hand."""


class OutputCollisionError(MediaError):
    """A file whose output would be that of another file."""
