"""The contract of a smoother, and how one is made from the configuration.

To add one: a class with ``push`` and ``flush`` and a line in ``load_smoother``.
"""

from __future__ import annotations

from typing import Protocol

from nst_ops.config.stylize import TemporalConfig
from nst_ops.media.images import UInt8Array
from nst_ops.temporal.flow import load_flow
from nst_ops.temporal.recursive import RecursiveSmoother
from nst_ops.temporal.window import WindowSmoother


class Smoother(Protocol):
    """Takes the frames of one clip in order, and gives as many back in the same order.

    Attributes:
        lead: frames before the first wanted one that its result depends on.
        tail: frames after the last wanted one, likewise.
    """

    lead: int
    tail: int

    def push(self, source_hwc: UInt8Array, stylized_hwc: UInt8Array) -> list[UInt8Array]:
        """Take the next frame.

        Args:
            source_hwc: uint8 sRGB, (H, W, 3); all of a clip have one shape.
            stylized_hwc: the same frame stylized, of the same shape.

        Returns:
            The frames that are finished by now, in order.
        """
        ...

    def flush(self) -> list[UInt8Array]:
        """Finish the frames still held; call it once, at the end of the clip."""
        ...


def load_smoother(config: TemporalConfig, device: str = "auto") -> Smoother:
    """Make the smoother that ``config`` describes, for one clip.

    Args:
        config: mode and its settings.
        device: where flow that runs on torch is estimated: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        FileNotFoundError: ``flow_weights`` does not exist.
        ValueError: there is no such device.
    """
    if config.mode == "none":
        return PassThrough()
    common = config.detail, config.flow_side, config.scene_threshold
    if config.mode == "gate":
        return RecursiveSmoother(None, config.weight, *common)
    estimate = load_flow(config, device)
    if config.mode == "ema":
        return RecursiveSmoother(estimate, config.weight, *common)
    return WindowSmoother(estimate, config.radius, *common)


class PassThrough:
    """Every frame by itself."""

    lead = tail = 0

    def push(self, source_hwc: UInt8Array, stylized_hwc: UInt8Array) -> list[UInt8Array]:
        """See ``Smoother``."""
        return [stylized_hwc]

    def flush(self) -> list[UInt8Array]:
        """See ``Smoother``."""
        return []
