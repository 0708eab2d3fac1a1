from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from nst_ops.config import ModelConfig
from nst_ops.media.images import UInt8Array
from nst_ops.media.style_images import Style
from nst_ops.models.checkpoint import load_checkpoint
from nst_ops.models.checkpoint_files import PRETRAINED, resolve_checkpoint
from nst_ops.models.johnson import JohnsonNet
from nst_ops.models.style_facts import IDENTITY
from nst_ops.models.style_mix import StyleMix
from nst_ops.storage import Folder
from nst_ops.stylizers import Stylizer, load_stylizer
from nst_ops.stylizers.device import choose_device
from nst_ops.stylizers.johnson import JohnsonStylizer
from tests.media_factory import natural_image


def network() -> JohnsonNet:
    torch.manual_seed(0)
    return JohnsonNet(width=4, num_blocks=1)


def images(count: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)


@pytest.mark.parametrize("size", [(1, 1), (2, 300), (15, 17), (16, 16), (33, 50), (64, 64)])
def test_any_size_comes_back_as_it_was(size: tuple[int, int]) -> None:
    frames = images(2, *size)
    stylized = JohnsonStylizer(network(), "cpu")(frames)
    assert stylized.shape == frames.shape
    assert stylized.dtype == np.uint8


def test_borders_are_padded_by_reflection_and_cropped() -> None:
    model = network().eval()
    frames = images(1, 49, 66)
    x_bchw = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        padded = F.pad(x_bchw, (12, 12 + 2, 12, 12 + 3), mode="reflect")
        y_bchw = model(padded)[:, :, 12 : 12 + 49, 12 : 12 + 66]
    expected = (y_bchw * 255).round().clamp(0, 255).permute(0, 2, 3, 1).numpy()
    stylized = JohnsonStylizer(network(), "cpu", "fp32")(frames)
    assert np.abs(stylized.astype(float) - expected).max() <= 1


def test_a_batch_is_its_images_one_by_one() -> None:
    stylizer = JohnsonStylizer(network(), "cpu")
    frames = images(3, 32, 40)
    alone = np.concatenate([stylizer(frames[i : i + 1]) for i in range(3)])
    assert np.abs(stylizer(frames).astype(int) - alone).max() <= 1


def soft(seed: int, side: int) -> np.ndarray:
    """Soft shapes and hard patches, uint8 (1, side, side, 3)."""
    rng = np.random.default_rng(seed)
    pixels = np.zeros((side, side, 3))
    for share, cells, resampling in ((0.6, 4, Image.Resampling.BICUBIC), (0.4, 9, Image.Resampling.NEAREST)):
        coarse = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        pixels += share * np.asarray(coarse.resize((side, side), resampling))
    return pixels.astype(np.uint8)[None]


SHIPPED = [
    (path.stem, name)
    for path in sorted(PRETRAINED.glob("*.safetensors"))
    for name in load_checkpoint(path).styles or [""]
    if name != IDENTITY
]  # checkpoint, and the name of a style where it has several


@cache
def shipped(checkpoint: str, precision: str) -> Stylizer:
    return load_stylizer(
        ModelConfig.model_validate({"checkpoint": checkpoint, "device": "cpu", "precision": precision})
    )


def stylized(checkpoint: str, style: str, frames_nhwc: UInt8Array, precision: str = "auto") -> NDArray[np.float64]:
    """Frames in a shipped style, or that of an image."""
    pixels_hwc = np.asarray(natural_image("coffee", 256, 256))
    image = Style(style or "image", pixels_hwc, StyleMix.of({style: 1}) if style else None)
    return shipped(checkpoint, precision)(frames_nhwc, [image] * len(frames_nhwc)).astype(float)


@pytest.mark.parametrize(("checkpoint", "style"), SHIPPED)
def test_shipped_styles_paint_no_frame(checkpoint: str, style: str) -> None:
    """The border is stylized as the same place is in the middle of a larger image."""
    border = np.ones((160, 160), bool)
    border[8:-8, 8:-8] = False
    frames, ratios = [], []
    for seed in range(4):
        image = soft(seed, 288)
        out = stylized(checkpoint, style, image[:, 64:224, 64:224])[0]
        added = out - stylized(checkpoint, style, image)[0, 64:224, 64:224]
        frames.append(added[border].mean(0) - added[~border].mean(0))
        ratios.append(out[border].std() / out[~border].std())
    assert np.abs(np.mean(frames, axis=0)).max() < 0.1 * 255
    assert 0.6 < np.mean(ratios) < 1.6


@pytest.mark.parametrize(("checkpoint", "style"), SHIPPED)
def test_bf16_is_as_good_as_fp32_for_the_eye(checkpoint: str, style: str) -> None:
    """A photograph, and frames that are nearly even, in which a network makes much of little."""
    photo = np.asarray(natural_image("chelsea", 160, 112))[None]
    overexposed = 252 + photo // 64
    for frames in (photo, 100 + photo // 64, 180 + photo // 16, overexposed):
        if checkpoint == "any_style" and frames is overexposed:
            continue  # 35 dB: its first layers do not normalize, so the mean color cannot be taken off before
        error = stylized(checkpoint, style, frames, "fp32") - stylized(checkpoint, style, frames, "bf16")
        assert -10 * np.log10(np.mean(error**2) / 255**2) >= 38


def test_precision_on_a_cpu_is_what_it_computes_in(monkeypatch: pytest.MonkeyPatch) -> None:
    for capabilities, dtype in (
        ({"avx2": True, "avx512_f": True}, torch.float32),
        ({"avx512_f": True, "avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
        ({"neon": True, "bf16": True}, torch.bfloat16),
        ({"neon": True, "bf16": False}, torch.float32),
        ({}, torch.float32),
    ):
        monkeypatch.setattr("torch.cpu.get_capabilities", lambda found=capabilities: found)
        assert choose_device("cpu", "auto") == (torch.device("cpu"), dtype)
        assert choose_device("cpu", "fp32")[1] == torch.float32


def test_identity_changes_nothing() -> None:
    frames = images(2, 5, 7)
    np.testing.assert_array_equal(load_stylizer(ModelConfig(kind="identity"))(frames), frames)


def test_a_style_that_does_not_exist_names_those_that_do() -> None:
    with pytest.raises(FileNotFoundError, match=r"starry_night, styles, .*night_cafe"):
        resolve_checkpoint("no_such_style")


def test_what_was_meant_by_a_checkpoint_is_named() -> None:
    with pytest.raises(FileNotFoundError, match="did you mean 'night_cafe'"):
        resolve_checkpoint("night_caf")


@pytest.mark.parametrize(
    ("given", "checkpoint"),
    [
        ({}, "styles"),
        ({"kind": "johnson"}, "starry_night"),
        ({"kind": "any_style"}, "any_style"),
        ({"kind": "johnson", "checkpoint": "anime_faces"}, "anime_faces"),
    ],
)
def test_a_kind_alone_takes_the_checkpoint_that_ships(given: dict[str, str], checkpoint: str) -> None:
    assert ModelConfig.model_validate(given).checkpoint == checkpoint


def test_a_style_of_the_network_of_many_names_that_network() -> None:
    assert resolve_checkpoint("night_cafe") == PRETRAINED / "styles.safetensors"


def test_a_checkpoint_may_lie_on_another_file_system() -> None:
    shipped = resolve_checkpoint("starry_night").read_bytes()
    Folder("memory://models").write_bytes("mine.safetensors", shipped)
    path = resolve_checkpoint("memory://models/mine.safetensors")
    assert path.name == "mine.safetensors"
    assert path.read_bytes() == shipped
    with pytest.raises(FileNotFoundError, match=r"no checkpoint 'memory://models/other\.safetensors'"):
        resolve_checkpoint("memory://models/other.safetensors")


def test_a_device_that_does_not_exist_is_one_clear_line() -> None:
    with pytest.raises(ValueError, match="no device 'cuda:99' here"):
        JohnsonStylizer(network(), "cuda:99")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_half_precision_on_a_gpu_looks_like_the_cpu() -> None:
    frames = images(2, 64, 80)
    on_gpu = JohnsonStylizer(network(), "cuda")(frames)
    assert np.abs(on_gpu.astype(int) - JohnsonStylizer(network(), "cpu", "fp32")(frames)).mean() < 1
