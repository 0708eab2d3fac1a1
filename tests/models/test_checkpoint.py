"""Checkpoints: our own, the layouts people bring, and what must be refused.

The reference networks below are written from the published layouts, apart from ours, so
that a mistake in the import shows as a difference in the images.
"""

import json
import os
import pickle
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from nst_ops.models.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from nst_ops.models.johnson import JohnsonNet
from nst_ops.models.vit_adain import ViTAdaIN

WIDTH, BLOCKS = 4, 5


class Padded(nn.Module):
    """Both foreign layouts hold a padded convolution under ``conv2d``."""

    def __init__(self, channels_in: int, channels: int, kernel: int, stride: int = 1, upsample: int = 1) -> None:
        super().__init__()
        self.conv2d = nn.Conv2d(channels_in, channels, kernel, stride)
        self.margin, self.upsample = kernel // 2, upsample

    def forward(self, x: Tensor) -> Tensor:
        if self.upsample > 1:
            x = F.interpolate(x, scale_factor=self.upsample, mode="nearest")
        return self.conv2d(F.pad(x, (self.margin,) * 4, mode="reflect"))


class Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.in1 = Padded(channels, channels, 3), nn.InstanceNorm2d(channels, affine=True)
        self.conv2, self.in2 = Padded(channels, channels, 3), nn.InstanceNorm2d(channels, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.in2(self.conv2(torch.relu(self.in1(self.conv1(x)))))


class ExamplesNet(nn.Module):
    """pytorch/examples fast_neural_style: pixels 0..255 in and out, linear head."""

    def __init__(self) -> None:
        super().__init__()
        sizes = [(3, WIDTH, 9, 1, 1), (WIDTH, 2 * WIDTH, 3, 2, 1), (2 * WIDTH, 4 * WIDTH, 3, 2, 1)]
        ups = [(4 * WIDTH, 2 * WIDTH, 3, 1, 2), (2 * WIDTH, WIDTH, 3, 1, 2), (WIDTH, 3, 9, 1, 1)]
        for number, size in enumerate(sizes, 1):
            self.add_module(f"conv{number}", Padded(*size))
        for number, size in enumerate(ups, 1):
            self.add_module(f"deconv{number}", Padded(*size))
        for number, size in enumerate([*sizes, *ups[:2]], 1):
            self.add_module(f"in{number}", nn.InstanceNorm2d(size[1], affine=True))
        for number in range(1, BLOCKS + 1):
            self.add_module(f"res{number}", Residual(4 * WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        part = self.get_submodule
        for number in (1, 2, 3):
            x = torch.relu(part(f"in{number}")(part(f"conv{number}")(x)))
        for number in range(1, BLOCKS + 1):
            x = part(f"res{number}")(x)
        for number in (1, 2):
            x = torch.relu(part(f"in{number + 3}")(part(f"deconv{number}")(x)))
        return part("deconv3")(x)


class Transposed(nn.Module):
    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.convTrans = nn.ConvTranspose2d(channels_in, channels, 3, stride=2, padding=1, output_padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.convTrans(x)


class ClipmorphNet(nn.Module):
    """clipmorph: sequences of convolution, norm and ReLU; transposed upsampling, sigmoid head."""

    def __init__(self) -> None:
        super().__init__()
        self.normalization = nn.InstanceNorm2d(3, affine=True)  # held, never used
        self.convBlock = nn.Sequential(
            *self._unit(Padded(3, WIDTH, 9), WIDTH),
            *self._unit(Padded(WIDTH, 2 * WIDTH, 3, 2), 2 * WIDTH),
            *self._unit(Padded(2 * WIDTH, 4 * WIDTH, 3, 2), 4 * WIDTH),
        )
        self.residualBlock = nn.Sequential(*(Residual(4 * WIDTH) for _ in range(BLOCKS)))
        self.convTransBlock = nn.Sequential(
            *self._unit(Transposed(4 * WIDTH, 2 * WIDTH), 2 * WIDTH),
            *self._unit(Transposed(2 * WIDTH, WIDTH), WIDTH),
            Padded(WIDTH, 3, 9),
        )

    @staticmethod
    def _unit(conv: nn.Module, channels: int) -> Iterator[nn.Module]:
        yield from (conv, nn.InstanceNorm2d(channels, affine=True), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.convTransBlock(self.residualBlock(self.convBlock(x))))


def randomize(net: nn.Module) -> nn.Module:
    """Weights under which a mistake shows: norms are not the identity, biases not zero."""
    generator = torch.Generator().manual_seed(0)
    for parameter in net.parameters():
        if parameter.dim() == 1:
            parameter.data += 0.5 * torch.randn(parameter.shape, generator=generator)
    return net.eval()


@pytest.fixture
def pixels() -> Tensor:
    return torch.rand(1, 3, 36, 44, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def examples_net() -> nn.Module:
    torch.manual_seed(0)
    net = randomize(ExamplesNet())
    net.deconv3.conv2d.weight.data *= 150  # spread over 0..255, some of it outside
    net.deconv3.conv2d.bias.data += 120
    return net


def prefixed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in state.items()}


@pytest.mark.parametrize(
    "config",
    [
        {"width": 4, "num_blocks": 2},
        {"width": 3, "num_blocks": 1, "upsampling": "transposed", "norm": "batch", "head": "linear"},
        {"width": 4, "num_blocks": 1, "upsampling": "bilinear", "norm": "layer"},
    ],
)
def test_own_round_trip_in_half_precision(config, tmp_path, pixels):
    torch.manual_seed(0)
    net = JohnsonNet(**config).eval()
    path = tmp_path / "own.safetensors"
    save_checkpoint(path, net, {"style": "étoiles", "steps": 3, "losses": {"content": 0.5}})
    loaded = load_checkpoint(path)
    assert loaded.layout == "nst-ops"
    assert loaded.facts == {"style": "étoiles", "steps": 3, "losses": {"content": 0.5}}
    assert loaded.model.config == net.config
    assert not loaded.model.training
    torch.testing.assert_close(loaded.model(pixels), net(pixels), atol=5e-3, rtol=5e-3)
    with safe_open(str(path), "pt") as file:
        assert {str(file.get_tensor(key).dtype) for key in file.keys()} <= {"torch.float16", "torch.int64"}  # noqa: SIM118


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module."])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_pytorch_examples_layout(prefix, suffix, examples_net, tmp_path, pixels):
    path = tmp_path / f"mosaic{suffix}"
    state = {key: value.contiguous() for key, value in prefixed(examples_net.state_dict(), prefix).items()}
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    loaded = load_checkpoint(path)
    assert loaded.layout == "pytorch-examples"
    expected = (examples_net(pixels * 255) / 255).clamp(0, 1)
    assert expected.std() > 0.1
    torch.testing.assert_close(loaded.model(pixels).clamp(0, 1), expected, atol=1e-4, rtol=1e-4)


def test_old_running_statistics_are_ignored(examples_net, tmp_path, pixels):
    state = dict(examples_net.state_dict())
    for key in [key for key in state if key.endswith("weight") and state[key].dim() == 1]:
        stem = key.removesuffix("weight")
        state |= {f"{stem}running_mean": torch.randn(4), f"{stem}running_var": torch.rand(4)}
    torch.save(state, tmp_path / "old.pth")
    got = load_checkpoint(tmp_path / "old.pth").model(pixels).clamp(0, 1)
    torch.testing.assert_close(got, (examples_net(pixels * 255) / 255).clamp(0, 1), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("nest", ["state_dict", "model_state_dict", "model", None])
def test_clipmorph_layout(nest, tmp_path, pixels):
    torch.manual_seed(0)
    net = randomize(ClipmorphNet())
    state = net.state_dict()
    torch.save({nest: state, "epoch": 3} if nest else state, tmp_path / "clip.pth")
    loaded = load_checkpoint(tmp_path / "clip.pth")
    assert loaded.layout == "clipmorph"
    torch.testing.assert_close(loaded.model(pixels), net(pixels), atol=1e-5, rtol=1e-4)


class Touch:
    """Unpickling it would create a file: the mark that code was run."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("write", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
@pytest.mark.parametrize("name", ["evil.pth", "evil.safetensors"])
def test_code_is_refused_and_not_run(write, name, tmp_path):
    mark = tmp_path / "mark"
    write({"conv1.conv2d.weight": Touch(mark)}, tmp_path / name)
    with pytest.raises(CheckpointError, match="evil"):
        load_checkpoint(tmp_path / name)
    assert not mark.exists()


def test_another_architecture_is_refused_by_its_keys(tmp_path):
    torch.save({"blocks.0.attn.qkv.weight": torch.rand(3, 3)}, tmp_path / "vit.pth")
    with pytest.raises(CheckpointError, match=r"blocks\.0\.attn\.qkv\.weight"):
        load_checkpoint(tmp_path / "vit.pth")


def test_nothing_is_loaded_partially(examples_net, tmp_path):
    state = dict(examples_net.state_dict())
    del state["res3.conv1.conv2d.bias"]
    state["extra.weight"] = torch.rand(2)
    state["in1.weight"] = torch.rand(7)
    torch.save(state, tmp_path / "partial.pth")
    with pytest.raises(CheckpointError) as refused:
        load_checkpoint(tmp_path / "partial.pth")
    assert "missing residuals.2.conv1.conv.bias" in str(refused.value)
    assert "unexpected extra.weight" in str(refused.value)
    assert "encoder.0.norm.weight has" in str(refused.value)


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, torch.rand(2)])
def test_a_file_without_a_state_dict_is_refused(content, tmp_path):
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"other\.pth"):
        load_checkpoint(tmp_path / "other.pth")


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"format": "nst-ops/9", "architecture": "johnson"}, "nst-ops/9"),
        ({"format": "nst-ops/1", "architecture": "unet"}, "unet"),
        ({"format": "nst-ops/1", "architecture": "vit_adain", "config": '{"widths": [1]}'}, "widths"),
        ({"format": "nst-ops/1", "architecture": "johnson"}, "metadata"),
        ({"format": "nst-ops/1", "architecture": "johnson", "config": json.dumps({"depth": 3})}, "depth"),
        ({"format": "nst-ops/1", "architecture": "johnson", "config": "{}", "facts": "{"}, "metadata"),
    ],
)
def test_own_files_of_another_kind_are_refused(metadata, words, tmp_path):
    save_file({"a": torch.rand(1)}, tmp_path / "own.safetensors", metadata=metadata)
    with pytest.raises(CheckpointError, match=words):
        load_checkpoint(tmp_path / "own.safetensors")


def test_damaged_and_absent_files(tmp_path):
    (tmp_path / "torn.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{")
    with pytest.raises(CheckpointError, match="torn"):
        load_checkpoint(tmp_path / "torn.safetensors")
    with pytest.raises(FileNotFoundError):
        load_checkpoint(tmp_path / "absent.safetensors")


class SeedNet(nn.Module):
    """ViT-AdaIN as its recipe is told, with the VGG of its losses inside; written apart from ours."""

    def __init__(self, affine: bool, kernel: int, bias: bool, paints: str) -> None:
        super().__init__()
        self.vit = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=2)
        self.register_buffer("imagenet_mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        widths, layers = [192, 12, 8, 64], []
        widths += [6] if paints == "convolution" else []
        doubling = {"stride": 2, "padding": 1, "output_padding": kernel % 2}
        for before, after in pairwise(widths):
            norm = nn.InstanceNorm2d(after, affine=affine)
            layers += [nn.ConvTranspose2d(before, after, kernel, bias=bias, **doubling), norm, nn.ReLU()]
        last = (
            nn.Conv2d(widths[-1], 3, 3, padding=1)
            if paints == "convolution"
            else nn.ConvTranspose2d(widths[-1], 3, kernel, **doubling)
        )
        self.decoder = nn.Sequential(*layers, last, nn.Tanh())
        self.loss_vgg = torchvision.models.vgg19().features[:7]

    def encode(self, x: Tensor) -> Tensor:
        std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
        tokens = self.vit.forward_features((x - self.imagenet_mean) / std)[:, 1:]
        return tokens.transpose(1, 2).reshape(len(x), 192, 2, 2)

    def forward(self, content: Tensor, style: Tensor) -> Tensor:
        c, s = self.encode(content), self.encode(style)
        (cm, cs), (sm, ss) = (
            (f.mean((2, 3), keepdim=True), (f.var((2, 3), keepdim=True, unbiased=False) + 1e-5).sqrt()) for f in (c, s)
        )
        stylized = self.decoder((c - cm) / cs * ss + sm)
        return stylized * torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1) + self.imagenet_mean


SEEDS = {
    "plain": partial(SeedNet, affine=False, kernel=4, bias=True, paints="transposed"),
    "affine": partial(SeedNet, affine=True, kernel=3, bias=False, paints="convolution"),
    "3x3 to colors": partial(SeedNet, affine=True, kernel=3, bias=True, paints="transposed"),
}


def seed_net(name: str) -> SeedNet:
    """The same network in every test, whatever ran before."""
    torch.manual_seed(0)
    return randomize(SEEDS[name]())


def renamed(state: dict[str, Tensor], names: dict[str, str]) -> dict[str, Tensor]:
    for old, new in names.items():
        state = {new + key.removeprefix(old) if key.startswith(old) else key: v for key, v in state.items()}
    return state


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "names",
    [{}, {"vit.": "encoder.model.", "decoder.": "net_g.layers.", "loss_vgg.": "criterion.vgg.slice1."}, {"": "model."}],
)
def test_seed_layout(seed, names, tmp_path):
    net = seed_net(seed)
    state = prefixed(renamed(net.state_dict(), names), "module.")
    torch.save({"epoch": 50, "model_state_dict": state, "optimizer_state_dict": {}}, tmp_path / "seed.pth")
    loaded = load_checkpoint(tmp_path / "seed.pth")
    assert loaded.layout == "seed"
    assert {key.split(".")[0] for key in loaded.dropped} >= {names.get("loss_vgg.", "loss_vgg.").split(".")[0]}
    assert not any("decoder" in key or "net_g" in key or "blocks" in key for key in loaded.dropped)
    content, styles = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32).square()
    with torch.no_grad():
        expected = net(content, styles)
        torch.testing.assert_close(loaded.model(content, styles), expected, atol=1e-4, rtol=1e-3)
    assert expected.std() > 0.05


def test_running_statistics_of_the_seeds_norms_are_ignored(tmp_path):
    net = seed_net("plain")
    state = net.state_dict() | {"decoder.1.running_mean": torch.rand(12), "decoder.1.running_var": torch.rand(12)}
    torch.save(state, tmp_path / "seed.pth")
    loaded = load_checkpoint(tmp_path / "seed.pth")
    assert {"decoder.1.running_mean", "decoder.1.running_var"} <= set(loaded.dropped)
    content, styles = torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(loaded.model(content, styles), net(content, styles), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state.pop("vit.blocks.1.mlp.fc2.bias"), r"missing encoder\.network\.blocks\.1\.mlp"),
        (lambda state: state.update({"adapter.weight": torch.rand(2)}), r"unexpected adapter\.weight"),
        (lambda state: state.update({"vit.norm.bias": torch.rand(3)}), r"norm\.bias has shape \(3,\)"),
        (lambda state: state.pop("decoder.6.weight"), "seed"),
        (lambda state: [state.pop(key) for key in list(state) if "decoder" in key], "no decoder"),
    ],
)
def test_a_seed_that_is_not_whole_is_refused(change, words, tmp_path):
    state = dict(seed_net("plain").state_dict())
    change(state)
    torch.save({"model_state_dict": state}, tmp_path / "seed.pth")
    with pytest.raises(CheckpointError, match=words):
        load_checkpoint(tmp_path / "seed.pth")


@pytest.mark.parametrize("prefix", ["", "encoder."])
def test_a_vit_alone_is_no_style_network(prefix, tmp_path):
    vit = prefixed(timm.create_model("vit_tiny_patch16_224", depth=1).state_dict(), prefix)
    for state in (vit, {key: value for key, value in vit.items() if "patch_embed" in key}):
        torch.save(state, tmp_path / "vit.pth")
        with pytest.raises(CheckpointError, match="no decoder"):
            load_checkpoint(tmp_path / "vit.pth")


def test_vit_adain_round_trip(tmp_path):
    options = {"embed_dim": 24, "depth": 3, "num_heads": 2}
    torch.manual_seed(0)
    net = ViTAdaIN("vit_tiny_patch16_224", options, image_size=32, levels=[0, -2], stem=4, widths=[8, 8, 8, 8]).eval()
    path = tmp_path / "own.safetensors"
    save_checkpoint(path, net, {"steps": 3})
    loaded = load_checkpoint(path)
    assert (loaded.layout, loaded.facts, loaded.dropped) == ("nst-ops", {"steps": 3}, ())
    assert loaded.model.config == net.config
    content, styles = torch.rand(1, 3, 48, 32), torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(loaded.model(content, styles), net(content, styles), atol=5e-3, rtol=5e-3)
    assert isinstance(loaded.expect(ViTAdaIN), ViTAdaIN)
    with pytest.raises(CheckpointError, match=r"own\.safetensors: holds a vit_adain network, not johnson"):
        loaded.expect(JohnsonNet)


def test_a_file_with_former_names_of_arguments_still_loads(tmp_path):
    """Up to version 0.1 the metadata of a ViT-AdaIN spelled ``normalisation``."""
    options = {"embed_dim": 24, "depth": 1, "num_heads": 2}
    net = ViTAdaIN("vit_tiny_patch16_224", options, image_size=32, normalization="imagenet", widths=[8, 8, 8, 8])
    path = tmp_path / "former.safetensors"
    save_checkpoint(path, net, {})
    with safe_open(str(path), "pt") as file:
        weights, metadata = {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118
    config = json.loads(metadata["config"])
    config["normalisation"] = config.pop("normalization")
    save_file(weights, path, metadata | {"config": json.dumps(config)})
    loaded = load_checkpoint(path).expect(ViTAdaIN)
    assert loaded.config == net.config
    assert torch.equal(loaded.encoder.mean, net.encoder.mean)
