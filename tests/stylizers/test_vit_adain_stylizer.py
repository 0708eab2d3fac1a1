"""ViT-AdaIN as a stylizer: sizes, mixed styles, statistics computed once, kinds kept apart."""

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nst_ops.config import ModelConfig
from nst_ops.models.checkpoint import CheckpointError, save_checkpoint
from nst_ops.models.johnson import JohnsonNet
from nst_ops.models.vit_adain import ViTAdaIN
from nst_ops.stylizers import Style, load_stylizer
from nst_ops.stylizers.vit_adain import VitAdainStylizer


def network(**options: Any) -> ViTAdaIN:
    torch.manual_seed(0)
    vit = {"embed_dim": 24, "depth": 2, "num_heads": 2}
    arguments = {"levels": [0, 1], "stem": 4, "widths": [16, 8, 8, 4]} | options
    return ViTAdaIN("vit_tiny_patch16_224", vit, image_size=32, **arguments).eval()


def images(count: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), np.uint8)


def style(seed: int, height: int = 40, width: int = 50) -> Style:
    """Coarse patches of a random palette: styles that differ."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, rng.integers(60, 256), (height // 8 + 1, width // 8 + 1, 3), np.uint8)
    return Style(f"style{seed}", coarse.repeat(8, axis=0).repeat(8, axis=1)[:height, :width])


@pytest.mark.parametrize("size", [(1, 1), (2, 70), (15, 17), (33, 50), (64, 64)])
@pytest.mark.parametrize("options", [{}, {"decoder": "transposed", "stem": 0}])
def test_any_size_comes_back_as_it_was(size: tuple[int, int], options: dict[str, Any]) -> None:
    frames = images(2, *size)
    stylized = VitAdainStylizer(network(**options), "cpu")(frames, [style(1, 1, 3), style(2)])
    assert stylized.shape == frames.shape
    assert stylized.dtype == np.uint8


def test_frames_and_styles_are_padded_to_the_stride_and_cropped() -> None:
    model = network()
    frames, given = images(1, 35, 50), style(1, 40, 50)

    def to_tensor(pixels: np.ndarray, right: int, bottom: int) -> torch.Tensor:
        x_bchw = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
        return F.pad(x_bchw, (0, right, 0, bottom), mode="reflect")

    with torch.inference_mode():
        stylized = model(to_tensor(frames, 14, 13), to_tensor(given.pixels_hwc[None], 14, 8), alpha=0.7)
    expected = (stylized[:, :, :35, :50] * 255).round().permute(0, 2, 3, 1).numpy()
    stylized = VitAdainStylizer(network(), "cpu", "fp32", alpha=0.7)(frames, [given])
    assert np.abs(stylized.astype(float) - expected).max() <= 1


def test_a_batch_of_several_styles_equals_its_frames_one_by_one() -> None:
    stylizer = VitAdainStylizer(network(), "cpu", "fp32")
    frames = images(1, 32, 40).repeat(4, axis=0)
    styles = [style(1), style(2, 64, 30), style(3), style(1)]
    alone = np.concatenate([stylizer(frames[i : i + 1], styles[i : i + 1]) for i in range(4)])
    together = stylizer(frames, styles)
    assert np.abs(together.astype(int) - alone).max() <= 1
    assert np.abs(together[0].astype(int) - together[1]).max() > 4
    np.testing.assert_array_equal(together[0], together[3])


def test_a_style_is_computed_once_and_forgotten_with_it() -> None:
    model = network()
    encoded: list[tuple[int, ...]] = []
    model.encoder.register_forward_hook(lambda module, args, out: encoded.append(tuple(args[0].shape)))
    stylizer = VitAdainStylizer(model, "cpu", "fp32")
    frames, first, second = images(3, 32, 32), style(1, 64, 64), style(2, 64, 64)
    stylizer(frames, [first, second, first])
    stylizer(frames, [second, first, first])
    stylizer(frames[:1], [first])
    shapes = [(1, 3, 64, 64), (1, 3, 64, 64), (3, 3, 32, 32), (3, 3, 32, 32), (1, 3, 32, 32)]
    assert encoded == shapes
    del first, second
    gc.collect()
    assert len(stylizer._statistics) == 0


def test_alpha_0_is_the_reconstruction_whatever_the_style() -> None:
    frames = images(1, 32, 32)
    plain = VitAdainStylizer(network(), "cpu", "fp32", alpha=0.0)
    np.testing.assert_array_equal(plain(frames, [style(1)]), plain(frames, [style(2)]))
    full, half = (VitAdainStylizer(network(), "cpu", "fp32", alpha=alpha)(frames, [style(1)]) for alpha in (1.0, 0.5))
    base = plain(frames, [style(1)]).astype(int)
    assert 0 < np.abs(half - base).mean() < np.abs(full - base).mean()


def test_each_frame_takes_a_style() -> None:
    with pytest.raises(ValueError, match="2 frames and 1 styles"):
        VitAdainStylizer(network(), "cpu", "fp32")(images(2, 16, 16), [style(1)])


def test_frames_beyond_memory_go_one_by_one_then_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    stylizer = VitAdainStylizer(network(), "cpu", "fp32")
    frames, styles = images(3, 60, 64), [style(i) for i in range(3)]
    whole = stylizer(frames, styles)
    per_frame = 5 * 8 * 64 * 64 * 4
    for free, fits in ((per_frame + 1, True), (per_frame - 1, False)):
        monkeypatch.setattr("psutil.virtual_memory", lambda free=free: type("M", (), {"available": free})())
        monkeypatch.setattr("nst_ops.stylizers.memory.kept_bytes", lambda: 0)
        if fits:
            assert np.abs(stylizer(frames, styles).astype(int) - whole).max() <= 1
        else:
            with pytest.raises(MemoryError, match=r"resize\.max_side"):
                stylizer(frames, styles)


def test_load_stylizer_and_kinds_kept_apart(tmp_path: Path) -> None:
    vit, johnson = str(tmp_path / "vit.safetensors"), str(tmp_path / "johnson.safetensors")
    save_checkpoint(vit, network(), {})
    save_checkpoint(johnson, JohnsonNet(width=4, num_blocks=1), {})
    frames = images(1, 20, 20)
    half = load_stylizer(ModelConfig(kind="vit_adain", checkpoint=vit, device="cpu", precision="fp32"), alpha=0.5)
    expected = VitAdainStylizer(network(), "cpu", "fp32", alpha=0.5)(frames, [style(1)])
    assert np.abs(half(frames, [style(1)]).astype(int) - expected).max() <= 2
    for kind, path, right in (("johnson", vit, "vit_adain"), ("vit_adain", johnson, "johnson")):
        with pytest.raises(CheckpointError, match=rf"holds a {right} network.*--model\.kind {right}"):
            load_stylizer(ModelConfig(kind=kind, checkpoint=path, device="cpu", precision="fp32"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_half_precision_on_a_gpu_looks_like_the_cpu() -> None:
    frames, styles = images(2, 64, 80), [style(1), style(2)]
    on_gpu = VitAdainStylizer(network(), "cuda")(frames, styles)
    assert np.abs(on_gpu.astype(int) - VitAdainStylizer(network(), "cpu", "fp32")(frames, styles)).mean() < 1
