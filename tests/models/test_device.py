"""Devices by name, and a GPU that was granted but cannot be used."""

import pytest
import torch

from nst_ops.models.device import find_device, granted_gpus

NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU can be used here")


@pytest.mark.parametrize("visible", ["", " ", "-1", "NoDevFiles", "void", "none"])
def test_nobody_has_granted_a_gpu(visible, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert not granted_gpus()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert find_device("auto") == torch.device("cpu")


@NO_GPU
@pytest.mark.parametrize("visible", ["0", "1,3", "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"])
def test_a_granted_gpu_that_cannot_be_used_is_an_error(visible, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    with pytest.raises(ValueError, match=f"GPU {visible} was granted, .*CUDA 13.2 and needs NVIDIA driver 580"):
        find_device("auto")
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(ValueError, match="is built without CUDA: install one that is, or set the device to cpu"):
        find_device("auto")
    assert find_device("cpu") == torch.device("cpu")


@NO_GPU
def test_a_gpu_that_was_asked_for_by_name_names_the_driver(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert find_device("auto") == torch.device("cpu")
    with pytest.raises(ValueError, match=r"no device 'cuda:1' here: .*; torch .* or set the device to cpu"):
        find_device("cuda:1")
    with pytest.raises(ValueError, match="no device 'tpu9' here"):
        find_device("tpu9")
