"""Recorded shapes of a network: the same results, a bounded number, and none where recording fails.

Where a GPU would replay kernels, the network itself takes its part here: on the recorded tensor, into the same memory.
"""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from nst_ops.models.johnson import JohnsonNet
from nst_ops.stylizers import graphs, memory
from nst_ops.stylizers.graphs import Graphs, Network
from nst_ops.stylizers.johnson import JohnsonStylizer

CPU = torch.device("cpu")


class Recordings:
    """Stands for the GPU's recording: notes each shape, keeps so many bytes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.shapes: list[tuple[int, ...]] = []
        self.num_replays = 0
        self.error: RuntimeError | None = None
        monkeypatch.setattr(graphs, "record", self.record)
        monkeypatch.setattr(graphs, "kept_unused_bytes", lambda device: 1000 * len(self.shapes))

    def record(self, network: Network, x_bchw: Tensor) -> Network:
        if self.error:
            raise self.error
        self.shapes.append(tuple(x_bchw.shape))
        entry, output = x_bchw.clone(), network(x_bchw)

        def replay(x_bchw: Tensor) -> Tensor:
            self.num_replays += 1
            entry.copy_(x_bchw)
            return output.copy_(network(entry))

        return replay


@pytest.fixture
def recordings(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recordings]:
    memory._held.clear()
    yield Recordings(monkeypatch)
    memory._held.clear()
    memory._usable.clear()


def square(x_bchw: Tensor) -> Tensor:
    return x_bchw * x_bchw


def calls(recorded: Graphs, count: int, side: int, is_small: bool = True) -> None:
    for seed in range(count):
        x_bchw = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(seed))
        assert torch.equal(recorded(x_bchw, is_small), square(x_bchw))


def test_a_shape_that_comes_again_is_replayed(recordings: Recordings) -> None:
    recorded = Graphs(square, CPU)
    calls(recorded, 2, 8)
    assert recordings.shapes == []
    calls(recorded, 4, 8)
    calls(recorded, 1, 16)
    assert recordings.shapes == [(1, 3, 8, 8)]
    assert recordings.num_replays == 4


def test_no_more_than_four_shapes_and_no_large_one(recordings: Recordings) -> None:
    recorded = Graphs(square, CPU)
    calls(recorded, 5, 99, is_small=False)
    for side in range(4, 10):
        calls(recorded, 3, side)
    assert [shape[2] for shape in recordings.shapes] == [4, 5, 6, 7]
    assert memory._held == {CPU: 4000}


def test_memory_of_recordings_is_no_free_memory(monkeypatch: pytest.MonkeyPatch, recordings: Recordings) -> None:
    cuda = torch.device("cuda")
    for name, value in {"memory_reserved": 9000, "memory_allocated": 2000, "mem_get_info": (500, 10**6)}.items():
        monkeypatch.setattr(f"torch.cuda.{name}", lambda device, value=value: value)
    recorded = Graphs(square, cuda)
    calls(recorded, 3, 8)
    assert memory.free_bytes(cuda) == 500 + 7000 - 1000
    recorded.release()
    assert memory.free_bytes(cuda) == 500 + 7000


def test_what_cannot_be_recorded_runs_as_it_is(recordings: Recordings, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "nst_ops")
    recorded = Graphs(square, CPU)
    calls(recorded, 3, 8)
    recordings.error = RuntimeError("operation not permitted when stream is capturing\nmore")
    calls(recorded, 5, 16)
    assert caplog.messages == ["no CUDA graphs: operation not permitted when stream is capturing"]
    assert memory._held == {CPU: 0}
    recordings.error = None
    calls(recorded, 5, 32)
    assert recordings.shapes == [(1, 3, 8, 8)]


def stylizer(monkeypatch: pytest.MonkeyPatch) -> JohnsonStylizer:
    """A stylizer that records as on a GPU; with 2 GiB, of which others take nothing."""
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 2**31})())
    monkeypatch.setattr("nst_ops.stylizers.memory.kept_bytes", lambda: 0)
    torch.manual_seed(0)
    made = JohnsonStylizer(JohnsonNet(4, 1), "cpu", "fp32")
    made._graphs = Graphs(made.model, CPU)
    return made


def frames(seed: int, side: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (1, side, side + 8, 3), np.uint8)


def test_a_stylizer_gives_the_same_with_and_without(monkeypatch: pytest.MonkeyPatch, recordings: Recordings) -> None:
    recording = stylizer(monkeypatch)
    torch.manual_seed(0)
    plain = JohnsonStylizer(JohnsonNet(4, 1), "cpu", "fp32")
    for seed in range(6):
        np.testing.assert_array_equal(recording(frames(seed)), plain(frames(seed)))
    assert recordings.num_replays == 4
    statistics = plain.measure(frames(9))  # a shot's own networks are not recorded
    frozen = recording.frozen(statistics)
    for seed in range(6):
        np.testing.assert_array_equal(frozen(frames(seed)), plain.frozen(statistics)(frames(seed)))
    assert recordings.num_replays == 4


def test_memory_that_runs_out_ends_the_recordings(monkeypatch: pytest.MonkeyPatch, recordings: Recordings) -> None:
    recording = stylizer(monkeypatch)
    for seed in range(3):
        recording(frames(seed))
    assert memory._held == {CPU: 1000}
    failed: list[int] = []

    def short_once(*_: object) -> None:
        if not failed:
            failed.append(1)
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    recording.model.encoder[0].register_forward_pre_hook(short_once)
    monkeypatch.setattr(JohnsonStylizer, "_frames_at_once", lambda self, height, width: 1 if failed else 2)
    assert recording(np.concatenate([frames(0, 64), frames(1, 64)])).shape == (2, 64, 72, 3)
    assert memory._held == {CPU: 0}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_replays_to_the_bit() -> None:
    torch.manual_seed(0)
    network = JohnsonNet(8, 1).eval().cuda().half().to(memory_format=torch.channels_last)
    recorded = Graphs(network, torch.device("cuda"))
    with torch.inference_mode():
        for _ in range(6):
            x_bchw = torch.rand(2, 3, 64, 80, device="cuda").half().contiguous(memory_format=torch.channels_last)
            assert torch.equal(recorded(x_bchw, is_small=True), network(x_bchw))
    assert recorded._replays
