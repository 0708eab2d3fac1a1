"""Frames that the stylizers of conditional networks are tried on."""

import numpy as np
import pytest

from nst_ops.media.images import UInt8Array


@pytest.fixture(scope="module")
def frames() -> UInt8Array:
    """Three smooth frames, (3, 60, 84, 3)."""
    y, x = (each[..., None] for each in np.mgrid[:60, :84])
    waves = [127 + 120 * np.sin(x / (9 + i) + y / (5 + 3 * i) + np.arange(3)) for i in range(3)]
    return np.stack(waves).astype(np.uint8)
