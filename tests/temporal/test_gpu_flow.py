from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision.models.optical_flow import raft_small

from nst_ops.models.weights import CheckpointError
from nst_ops.temporal.flow import DisFlow, FlowEstimator
from nst_ops.temporal.lucas_kanade import LucasKanadeFlow
from nst_ops.temporal.raft import RaftFlow
from tests.media_factory import natural_image

WIDTH, HEIGHT = 320, 180
PAN_SLOWLY, PAN_FAST = ([[1, 0, 2.6], [0, 1, -1.3]], [[1, 0, 11.5], [0, 1, -4.2]])
ZOOM, TURN = ([[1.04, 0, 0], [0, 1.04, 0]], [[np.cos(0.03), -np.sin(0.03), 0], [np.sin(0.03), np.cos(0.03), 0]])
MOTIONS = {"pan slowly": PAN_SLOWLY, "pan fast": PAN_FAST, "zoom": ZOOM, "turn": TURN}


def moved(name: str, motion: list[list[float]]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Two views of a content image, the exact flow about their middle, and where it stays in view."""
    around = np.asarray(natural_image(name, 2 * WIDTH, 2 * HEIGHT))
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float64)
    points = np.stack([x - WIDTH / 2, y - HEIGHT / 2], -1)
    matrix, middle = np.array(motion), (WIDTH, HEIGHT)
    target = points @ matrix[:, :2].T + matrix[:, 2]
    source = (points - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
    a, b = (
        cv2.remap(around, *np.moveaxis((at + middle).astype(np.float32), -1, 0), cv2.INTER_CUBIC)
        for at in (points, source)
    )
    in_view = (np.abs(target) < (WIDTH / 2 - 1, HEIGHT / 2 - 1)).all(-1)
    return a, b, target - points, in_view


def median_error(estimate: FlowEstimator, name: str, motion: str, gain: float = 1) -> float:
    """Median end-point error in pixels."""
    a, b, flow, in_view = moved(name, MOTIONS[motion])
    estimated = estimate(a, np.clip(b * gain, 0, 255).astype(np.uint8))
    return float(np.median(np.linalg.norm(estimated - flow, axis=-1)[in_view]))


@pytest.mark.parametrize("motion", MOTIONS)
@pytest.mark.parametrize("name", ["astronaut", "coffee"])
def test_lucas_kanade_finds_motion_that_is_known(name: str, motion: str) -> None:
    assert median_error(LucasKanadeFlow("cpu"), name, motion) < 0.3


@pytest.mark.parametrize("motion", ["pan fast", "zoom"])
def test_lucas_kanade_comes_near_dis(motion: str) -> None:
    dis = median_error(DisFlow(), "astronaut", motion)
    assert median_error(LucasKanadeFlow("cpu"), "astronaut", motion) < 2 * dis


def test_another_exposure_is_no_motion() -> None:
    assert median_error(LucasKanadeFlow("cpu"), "astronaut", "pan slowly", gain=0.85) < 0.3


def test_lucas_kanade_sees_no_motion_in_a_flat_or_a_still_image() -> None:
    estimate = LucasKanadeFlow("cpu")
    flat = np.full((40, 60, 3), 90, np.uint8)
    assert not estimate(flat, flat).any()
    still = np.asarray(natural_image("chelsea", 60, 40))
    assert np.abs(estimate(still, still)).max() < 1e-3


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (17, 33), (31, 200)])
def test_lucas_kanade_takes_any_size(size: tuple[int, int]) -> None:
    a, b = np.random.default_rng(0).integers(0, 256, (2, *size, 3), np.uint8)
    flow = LucasKanadeFlow("cpu")(a, b)
    assert flow.shape == (*size, 2)
    assert flow.dtype == np.float32
    assert np.isfinite(flow).all()


@pytest.mark.parametrize("kind", ["lucas_kanade", "raft"])
def test_flow_is_the_same_at_every_call(kind: str, tmp_path: Path) -> None:
    a, b, _, _ = moved("coffee", PAN_SLOWLY)
    estimate = LucasKanadeFlow("cpu") if kind == "lucas_kanade" else RaftFlow(random_weights(tmp_path), "cpu")
    np.testing.assert_array_equal(estimate(a[:64, :64], b[:64, :64]), estimate(a[:64, :64], b[:64, :64]))


def random_weights(folder: Path, suffix: str = ".pth") -> str:
    torch.manual_seed(0)
    path, weights = folder / f"raft{suffix}", raft_small().state_dict()
    if suffix == ".pth":
        torch.save(weights, path)
    else:
        save_file(weights, path)
    return str(path)


@pytest.mark.parametrize("size", [(20, 30), (129, 137)])
def test_raft_pads_small_frames_and_crops_the_flow(size: tuple[int, int], tmp_path: Path) -> None:
    height, width = size
    a, b = np.random.default_rng(0).integers(0, 256, (2, *size, 3), np.uint8)
    flow = RaftFlow(random_weights(tmp_path), "cpu")(a, b)
    assert flow.shape == (*size, 2)
    assert flow.dtype == np.float32
    below, right = (max(128, -(-side // 8) * 8) - side for side in size)
    inputs = [np.pad(each, ((0, below), (0, right), (0, 0)), mode="edge") for each in (a, b)]
    network = raft_small()
    network.load_state_dict(torch.load(random_weights(tmp_path), weights_only=True))
    with torch.inference_mode():
        x, y = (torch.from_numpy(each).permute(2, 0, 1)[None] / 127.5 - 1 for each in inputs)
        expected = network.eval()(x, y)[-1][0].permute(1, 2, 0).numpy()[:height, :width]
    np.testing.assert_allclose(flow, expected, atol=1e-4)


def test_raft_reads_two_file_formats_and_refuses_others(tmp_path: Path) -> None:
    a, b, _, _ = moved("coffee", PAN_SLOWLY)
    a, b = a[:64, :64], b[:64, :64]
    flows = [RaftFlow(random_weights(tmp_path, each), "cpu")(a, b) for each in (".pth", ".safetensors")]
    np.testing.assert_array_equal(*flows)
    wrong = tmp_path / "other.pth"
    torch.save({"conv.weight": torch.zeros(1)}, wrong)
    with pytest.raises(CheckpointError, match=r"other\.pth: not this architecture: missing .*"):
        RaftFlow(str(wrong), "cpu")
    with pytest.raises(FileNotFoundError, match=r"no\.pth"):
        RaftFlow(str(tmp_path / "no.pth"), "cpu")


def test_raft_without_a_network_names_the_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    with pytest.raises(CheckpointError, match=r"cannot be fetched .* temporal\.flow_weights"):
        RaftFlow(None, "cpu")


@pytest.mark.parametrize("estimator", [LucasKanadeFlow, lambda device: RaftFlow(None, device)])
def test_a_device_that_does_not_exist_is_refused(estimator) -> None:
    with pytest.raises(ValueError, match="no device 'cuda:99' here"):
        estimator("cuda:99")
