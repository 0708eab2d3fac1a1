"""Too little memory: fewer frames, then tiles, then an error with a remedy; and maps that a GPU cannot count."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from nst_ops.models.johnson import JohnsonNet
from nst_ops.stylizers import memory
from nst_ops.stylizers.johnson import JohnsonStylizer

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def nothing_learned() -> Iterator[None]:
    memory._usable.clear()
    yield
    memory._usable.clear()


@pytest.fixture
def ample(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gigabyte, however much other tests take."""
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 2**30})())
    monkeypatch.setattr("nst_ops.stylizers.memory.kept_bytes", lambda: 0)


def network(width: int = 8) -> JohnsonNet:
    torch.manual_seed(0)
    return JohnsonNet(width, 1)


def frames(count: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)


def short_of_memory(seen: list[tuple[int, ...]], frames: int, pixels: int) -> Callable[..., None]:
    """Hook of a device that holds no more than so many frames, and pixels of a layer, at once."""

    def refuse(_: object, args: tuple[torch.Tensor]) -> None:  # a function, as copies of a network share it
        count, _, height, width = args[0].shape
        seen.append((count, height, width))
        if count > frames or height * width > pixels:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    return refuse


def test_what_the_process_has_freed_and_kept_is_free(ample: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nst_ops.stylizers.memory.kept_bytes", lambda: 2**29)
    assert memory.free_bytes(CPU) == 2**30 + 2**29


@pytest.mark.parametrize("most", [1, 2, 3, 8])
def test_fewer_frames_at_once_after_memory_ran_out(most: int, ample: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JohnsonStylizer, "_frames_at_once", as_on_a_gpu)
    some = frames(8, 32, 40)
    expected = JohnsonStylizer(network(), "cpu", "fp32")(some)
    seen: list[tuple[int, ...]] = []
    stylizer = JohnsonStylizer(network(), "cpu", "fp32")
    stylizer.model.encoder[0].register_forward_pre_hook(short_of_memory(seen, most, 10**9))
    assert np.abs(stylizer(some).astype(int) - expected).max() <= 1
    first = [count for count, _, _ in seen]
    assert first[0] == 8
    assert sum(count for count in first if count <= most) == 8
    seen.clear()
    stylizer(some)  # what was learned is remembered
    assert max(count for count, _, _ in seen) <= most


def as_on_a_gpu(self: JohnsonStylizer, height: int, width: int) -> int:
    return memory.frames_that_fit(height, width, self._bytes(height, width), self.device)


def test_a_frame_that_ran_out_of_memory_goes_in_tiles(ample: None) -> None:
    some = frames(2, 600, 640)
    expected = JohnsonStylizer(network(4), "cpu", "fp32")(some)
    seen: list[tuple[int, ...]] = []
    stylizer = JohnsonStylizer(network(4), "cpu", "fp32")
    stylizer.model.decoder[-1].register_forward_pre_hook(short_of_memory(seen, 1, 400 * 400))
    assert np.abs(stylizer(some).astype(int) - expected).max() <= 1
    assert seen[0] == (1, 624, 664)
    assert seen[-1][1] * seen[-1][2] <= 400 * 400
    moments = stylizer.measure(some[:1])  # learned that, too
    assert len(moments.layers) == len(stylizer.model.norms())


def test_a_frame_that_never_fits_is_an_error_with_a_remedy(ample: None) -> None:
    stylizer = JohnsonStylizer(network(4), "cpu", "fp32")
    stylizer.model.encoder[0].register_forward_pre_hook(short_of_memory([], 1, 0))
    for call in (stylizer, stylizer.measure):
        with pytest.raises(MemoryError, match=r"400x300 pixels need about .* --resize\.max_side"):
            call(frames(1, 300, 400))


def test_a_frame_waits_while_another_holds_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both fit alone, not together: one after another, and neither in tiles."""
    stylizer = JohnsonStylizer(network(4), "cpu", "fp32")
    room = int(1.5 * stylizer._bytes(300, 400))
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": room})())
    monkeypatch.setattr("nst_ops.stylizers.memory.kept_bytes", lambda: 0)
    at_work: list[int] = []
    lock, seen = threading.Lock(), set()

    def enter(*_: object) -> None:
        with lock:
            at_work.append(1)
            seen.add(len(at_work))
        time.sleep(0.05)

    def leave(*_: object) -> None:
        at_work.pop()

    stylizer.model.encoder[0].register_forward_pre_hook(enter)  # once for each frame, oftener in tiles
    stylizer.model.decoder[-1].register_forward_hook(leave)
    some = frames(6, 300, 400)
    with ThreadPoolExecutor(3) as pool:
        stylized = list(pool.map(stylizer, some[:, None]))
    assert seen == {1}
    assert not memory._rooms[CPU].held_bytes
    np.testing.assert_array_equal(np.concatenate(stylized), np.concatenate([stylizer(one[None]) for one in some]))


def test_memory_that_ran_out_beside_others_is_there_for_one_alone(ample: None) -> None:
    """What three threads did not get together, one gets alone: no tiles, and no error."""
    stylizer, lock, inside = JohnsonStylizer(network(4), "cpu", "fp32"), threading.Lock(), []
    sizes, failed = set(), []

    def enter(_: object, args: tuple[torch.Tensor]) -> None:
        with lock:
            inside.append(1)
            sizes.add(tuple(args[0].shape))
            crowded = len(inside) > 1
        time.sleep(0.1)
        if crowded:
            inside.pop()
            failed.append(1)
            raise torch.OutOfMemoryError("CUDA out of memory")

    stylizer.model.encoder[0].register_forward_pre_hook(enter)
    stylizer.model.decoder[-1].register_forward_hook(lambda *_: inside.pop() and None)
    some = frames(6, 300, 400)
    with ThreadPoolExecutor(3) as pool:
        stylized = list(pool.map(stylizer, some[:, None]))
    assert sizes == {(1, 3, 324, 424)}
    assert len(stylized) == 6
    assert failed
    assert not memory._usable


def test_an_error_of_another_kind_is_raised_as_it_is(ample: None) -> None:
    stylizer = JohnsonStylizer(network(4), "cpu", "fp32")

    def broken(*_: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    stylizer.model.encoder[0].register_forward_pre_hook(broken)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        stylizer(frames(1, 32, 32))


def test_allocations_that_fail_on_a_cpu_are_known() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50, dtype=torch.uint8)
    assert memory.is_out_of_memory(caught.value)
    assert memory.is_out_of_memory(RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"))
    assert not memory.is_out_of_memory(RuntimeError("CUDA error: device-side assert triggered"))


def test_no_map_has_more_elements_than_a_gpu_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = torch.device("cuda")
    monkeypatch.setattr(memory, "free_bytes", lambda device: 2**50)
    monkeypatch.setattr("nst_ops.stylizers.johnson.free_bytes", lambda device: 2**50)
    stylizer = JohnsonStylizer(network(32), "cpu", "fp32")
    stylizer.device = cuda  # only planned for, not run
    cases = {(2160, 3840): 3, (3024, 4032): 2, (1080, 1920): 15, (256, 256): 427}
    for (height, width), at_once in cases.items():
        assert stylizer._tile_for(1, height, width) is None
        assert stylizer._frames_at_once(height, width) == at_once
        largest_map = 64 * (height + 24) * (width + 24)  # 64 channels at full size
        assert at_once * largest_map < 2**31 <= (at_once + 1) * largest_map
    assert stylizer._tile_for(1, 4320, 7680) is None  # 8K: 99.7 % of it
    assert stylizer._tile_for(1, 4350, 7680) == 1024
    assert stylizer._tile_for(1, 6120, 8160) == 1024
    with pytest.raises(MemoryError):
        memory.frames_that_fit(8000, 8000, 1, cuda, 64 * 8000 * 8000)
    assert memory.frames_that_fit(8000, 8000, 1, CPU, 64 * 8000 * 8000) > 1
