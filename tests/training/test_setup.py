"""What a training needs is read and checked before anything starts."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from nst_ops.config import ConfigError, TrainJohnsonConfig
from nst_ops.training.setup import read_setup

LOSS: dict[str, Any] = {
    "network": "vgg16",
    "content": {"taps": {"relu2_1": 1.0}},
    "gram": {"taps": {"relu1_2": 1.0, "relu2_1": 1.0}, "scales": {1.0: 1.0, 0.5: 1.0}},
}


def config(files: Path, network: Any = None, style: str = "style.png", size: int = 32, **loss: Any):
    """A run whose files lie in ``files``."""
    return TrainJohnsonConfig(
        data={"content": str(files / "content")},
        style=str(files / style),
        style_side=48,
        output="unused",
        network=network or {"width": 4, "num_blocks": 1},
        loss=LOSS | {"weights": str(files / "vgg16.pth")} | loss,
        train={"image_size": size, "seed": 3},
    )


def test_the_seed_decides_the_fresh_weights(files):
    one, same = (read_setup(config(files)).network.state_dict() for _ in range(2))
    assert all(torch.equal(value, same[key]) for key, value in one.items())
    assert read_setup(config(files)).style_image.shape == (48, 60, 3)


def test_a_shipped_style_may_be_gone_on_from(files):
    network = read_setup(config(files, {"start_from": "starry_night"})).network
    assert sum(parameter.numel() for parameter in network.parameters()) == 1_679_235
    assert network.training


def test_a_step_is_ready_on_its_device(files):
    tiny = config(files)
    step = read_setup(tiny).step(tiny, torch.device("cpu"))
    figures = step(torch.rand(2, 3, 32, 32), 1)
    assert set(figures.terms) == {"content", "gram", "variation"}
    assert step.network.encoder[0].conv.conv.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"style": "nowhere.png"}, "no file .*nowhere.png"),
        ({"network": {"start_from": "nowhere"}}, "no checkpoint 'nowhere'.*starry_night"),
        ({"weights": "nowhere.pth"}, "nowhere.pth"),
        ({"content": {"taps": {"relu4_1": 1.0}}}, "lacks features.10.*relu4_1 need; it can serve relu1_1"),
        ({"content": {"taps": {"relu9_1": 1.0}}}, "no taps .*relu9_1.*known: relu1_1"),
        ({"gram": LOSS["gram"] | {"scales": {0.05: 1.0}}}, "60 x 48 pixels is too small.*style_side"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_reason(files, changes, words):
    with pytest.raises(ConfigError, match=words):
        read_setup(config(files, **changes))


def test_crops_too_small_for_a_scale_are_refused(files):
    small = config(files, gram=LOSS["gram"] | {"scales": {0.1: 1.0}})
    with pytest.raises(ConfigError, match=r"of 32 x 32 pixels is too small.*image_size"):
        read_setup(small.model_copy(update={"style_side": 200}))


def test_weights_of_something_else_are_refused(files, tmp_path):
    save_file({"layer.weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(ConfigError, match=r"other\.safetensors: lacks features\.0.*serve none"):
        read_setup(config(files, weights=str(tmp_path / "other.safetensors")))
