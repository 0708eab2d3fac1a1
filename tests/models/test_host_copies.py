"""Copies between host and device."""

import numpy as np
import pytest
import torch

from nst_ops.models.host_copies import host_copies

CPU = torch.device("cpu")


@pytest.mark.parametrize("layout", ["as it is", "transposed", "read-only"])
def test_what_goes_up_comes_down_the_same(layout: str) -> None:
    array = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), np.uint8)
    array = array.transpose(0, 2, 1, 3) if layout == "transposed" else array
    array.flags.writeable = layout != "read-only"
    copies = host_copies(CPU)
    x = copies.up(array)
    assert (x.shape, x.dtype) == (array.shape, torch.uint8)
    np.testing.assert_array_equal(copies.down(x).result(), array)
    np.testing.assert_array_equal(copies.down(x.permute(0, 3, 1, 2)).result(), array.transpose(0, 3, 1, 2))


def test_a_cpu_shares_the_memory() -> None:
    array = np.zeros((2, 3), np.float32)
    x = host_copies(CPU).up(array)
    x.add_(1)
    assert (array == 1).all()
    assert np.shares_memory(host_copies(CPU).down(x).result(), array)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_copies_beside_a_busy_gpu_are_whole() -> None:
    copies = host_copies(torch.device("cuda"))
    a = torch.randn(4096, 4096, device="cuda")
    arrays = [np.full((1 << 22,), number, np.uint8) for number in range(16)]
    downloads = []
    for array in arrays:
        x = copies.up(array)
        a = (a @ a).clamp_(-1, 1)
        downloads.append(copies.down(x + 1))
        array.fill(255)  # it is the caller's again
    for number, download in enumerate(downloads):
        assert (download.result() == number + 1).all()
