import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nst_ops.models.johnson import JohnsonNet
from nst_ops.storage import Folder
from nst_ops.stylizers import load_stylizer, resolve_checkpoint
from nst_ops.stylizers.johnson import JohnsonStylizer


def network() -> JohnsonNet:
    torch.manual_seed(0)
    return JohnsonNet(width=4, num_blocks=1)


def pictures(count: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)


@pytest.mark.parametrize("size", [(1, 1), (2, 300), (15, 17), (16, 16), (33, 50), (64, 64)])
def test_any_size_comes_back_as_it_was(size: tuple[int, int]) -> None:
    frames = pictures(2, *size)
    stylized = JohnsonStylizer(network(), "cpu")(frames)
    assert stylized.shape == frames.shape
    assert stylized.dtype == np.uint8


def test_a_size_off_the_stride_is_padded_by_reflection_and_cropped_not_stretched() -> None:
    model = network().eval()
    frames = pictures(1, 49, 66)
    x_bchw = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        y_bchw = model(F.pad(x_bchw, (0, 2, 0, 3), mode="reflect"))[:, :, :49, :66]
    expected = (y_bchw * 255).round().clamp(0, 255).permute(0, 2, 3, 1).numpy()
    stylized = JohnsonStylizer(network(), "cpu")(frames)
    assert np.abs(stylized.astype(float) - expected).max() <= 1


def test_a_batch_is_its_pictures_one_by_one() -> None:
    stylizer = JohnsonStylizer(network(), "cpu")
    frames = pictures(3, 32, 40)
    alone = np.concatenate([stylizer(frames[i : i + 1]) for i in range(3)])
    assert np.abs(stylizer(frames).astype(int) - alone).max() <= 1


def test_frames_beyond_the_memory_go_one_by_one_and_a_frame_beyond_it_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stylizer = JohnsonStylizer(network(), "cpu")
    frames = pictures(3, 64, 64)
    whole = stylizer(frames)
    per_frame = 6 * 4 * 64 * 64 * 4
    for free, fits in ((per_frame + 1, True), (per_frame - 1, False)):
        monkeypatch.setattr("psutil.virtual_memory", lambda free=free: type("M", (), {"available": free})())
        if fits:
            assert np.abs(stylizer(frames).astype(int) - whole).max() <= 1
        else:
            with pytest.raises(MemoryError, match=r"resize\.max_side"):
                stylizer(frames)


def test_identity_changes_nothing() -> None:
    frames = pictures(2, 5, 7)
    np.testing.assert_array_equal(load_stylizer("identity")(frames), frames)


def test_a_style_that_does_not_exist_names_those_that_do() -> None:
    with pytest.raises(FileNotFoundError, match="starry_night"):
        resolve_checkpoint("no_such_style")


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
    frames = pictures(2, 64, 80)
    on_gpu = JohnsonStylizer(network(), "cuda")(frames)
    assert np.abs(on_gpu.astype(int) - JohnsonStylizer(network(), "cpu")(frames)).mean() < 1
