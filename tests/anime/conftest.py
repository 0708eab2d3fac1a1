"""A face that may be copied freely, and the networks that see it."""

from __future__ import annotations

import numpy as np
import pytest
from media_factory import natural_image

from nst_ops.anime.arrays import UInt8Array
from nst_ops.anime.networks import FaceNetworks


@pytest.fixture(scope="session")
def networks() -> FaceNetworks:
    return FaceNetworks()


@pytest.fixture(scope="session")
def photograph() -> UInt8Array:
    """A woman in a space suit, from the waist up, (512, 512, 3): E. Collins, NASA, public domain."""
    return np.asarray(natural_image("astronaut", 512, 512).convert("RGB"))


@pytest.fixture(scope="session")
def portrait(photograph: UInt8Array) -> UInt8Array:
    """Her head alone, (218, 178, 3), as in a collection of aligned faces."""
    return np.ascontiguousarray(photograph[0:218, 135:313])
