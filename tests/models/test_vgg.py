"""VGG taps against torchvision's own networks, and files that cannot serve a tap."""

import pickle
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from nst_ops.models.vgg import VGGFeatures, WeightsError, tap_indices


@pytest.fixture(scope="module")
def networks() -> dict[str, torch.nn.Module]:
    """Feature stacks of torchvision with random weights."""
    torch.manual_seed(0)
    make, layouts = torchvision.models.vgg.make_layers, torchvision.models.vgg.cfgs
    return {"vgg16": make(layouts["D"]).eval(), "vgg19": make(layouts["E"]).eval()}


def write_weights(path: Path, features: torch.nn.Module, below: int = 99) -> Path:
    """A file with torchvision's keys for the layers before ``below``."""
    state = {
        f"features.{key}": value.contiguous()
        for key, value in features.state_dict().items()
        if int(key.split(".")[0]) < below
    }
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    return path


@pytest.mark.parametrize("name", ["vgg16", "vgg19"])
def test_every_tap_equals_torchvision(name, networks, tmp_path):
    features = networks[name]
    own = VGGFeatures(name, tap_indices(name), write_weights(tmp_path / "w.safetensors", features))
    x = torch.rand(1, 3, 48, 40)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    got = own(x)
    y = (x - mean[:, None, None]) / std[:, None, None]
    block, conv, expected = 1, 0, {}
    for layer in features:
        y = layer(y)
        if isinstance(layer, torch.nn.ReLU):
            conv += 1
            expected[f"relu{block}_{conv}"] = y.clone()
        elif isinstance(layer, torch.nn.MaxPool2d):
            block, conv = block + 1, 0
    assert list(got) == list(expected)
    for tap, value in expected.items():
        torch.testing.assert_close(got[tap], value)


def test_published_indices():
    assert tap_indices("vgg16") | {"relu3_3": 15, "relu4_3": 22, "relu5_3": 29} == tap_indices("vgg16")
    assert tap_indices("vgg19") | {"relu3_4": 17, "relu4_1": 20, "relu5_1": 29} == tap_indices("vgg19")


def test_cut_at_the_deepest_tap_and_frozen(networks, tmp_path):
    weights = write_weights(tmp_path / "w.pth", networks["vgg16"])
    vgg = VGGFeatures("vgg16", ["relu2_2", "relu1_1"], weights)
    assert len(vgg.features) == tap_indices("vgg16")["relu2_2"] + 1
    assert not any(parameter.requires_grad for parameter in vgg.parameters())
    assert list(vgg(torch.rand(1, 3, 16, 16), until="relu1_1")) == ["relu1_1"]


def test_reflecting_padding_differs_at_the_border_only(networks, tmp_path):
    weights = write_weights(tmp_path / "w.pth", networks["vgg16"])
    x = torch.rand(1, 3, 32, 32)
    zeros, reflect = (
        VGGFeatures("vgg16", ["relu1_2"], weights, padding)(x)["relu1_2"] for padding in ("zeros", "reflect")
    )
    torch.testing.assert_close(zeros[:, :, 2:-2, 2:-2], reflect[:, :, 2:-2, 2:-2])
    assert (zeros[:, :, 0] - reflect[:, :, 0]).abs().max() > 1e-2


def test_gradient_reaches_the_image(networks, tmp_path):
    vgg = VGGFeatures("vgg16", ["relu1_2"], write_weights(tmp_path / "w.pth", networks["vgg16"]))
    x = torch.rand(1, 3, 16, 16, requires_grad=True)
    vgg(x)["relu1_2"].sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_missing_layers_are_refused_with_the_taps_left(suffix, networks, tmp_path):
    weights = write_weights(tmp_path / f"w{suffix}", networks["vgg19"], below=18)
    assert "relu3_4" in VGGFeatures("vgg19", ["relu3_4"], weights).taps.values()
    with pytest.raises(WeightsError, match=r"features\.19.*relu1_1, .*relu3_4$"):
        VGGFeatures("vgg19", ["relu3_1", "relu4_1"], weights)


def test_another_network_is_refused(networks, tmp_path):
    weights = write_weights(tmp_path / "w.safetensors", networks["vgg16"])
    with pytest.raises(WeightsError, match=r"features\.16"):
        VGGFeatures("vgg19", ["relu3_4"], weights)


@pytest.mark.parametrize("taps", [[], ["relu3_4"], ["conv1_1"]])
def test_unknown_taps_are_refused(taps, tmp_path):
    with pytest.raises(ValueError, match="known: relu1_1"):
        VGGFeatures("vgg16", taps, tmp_path / "never-read")


def test_damaged_and_pickled_files_are_refused(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"not a tensor in sight")
    (tmp_path / "w.pth").write_bytes(pickle.dumps(Path("a/b")))
    for name in ("w.safetensors", "w.pth"):
        with pytest.raises(WeightsError, match=name):
            VGGFeatures("vgg16", ["relu1_1"], tmp_path / name)
    with pytest.raises(FileNotFoundError):
        VGGFeatures("vgg16", ["relu1_1"], tmp_path / "absent.pth")


def test_half_precision_is_that_of_autocast_and_cast_once(networks, tmp_path):
    vgg = VGGFeatures("vgg16", ["relu2_1"], write_weights(tmp_path / "w.pth", networks["vgg16"], below=8))
    x_bchw = torch.rand(1, 3, 32, 32, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        expected = (x_bchw - vgg.mean) / vgg.std
        for layer in vgg.features:
            expected = layer(expected)
        with torch.inference_mode():
            vgg(x_bchw)
        cast = vgg._layers("cpu")
        features = vgg(x_bchw)["relu2_1"]
        assert vgg._layers("cpu") is cast
    assert torch.equal(features, expected)
    features.sum().backward()
    assert x_bchw.grad.abs().sum() > 0
    assert all(parameter.dtype == torch.float32 for parameter in vgg.parameters())
    vgg.to(torch.float64)
    assert vgg._layers("cpu") is vgg.features
    with torch.autocast("cpu", torch.bfloat16):
        assert vgg._layers("cpu") is not cast  # made of other weights
