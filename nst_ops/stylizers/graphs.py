"""CUDA graphs: what a network does to tensors of one shape, recorded once and replayed.

Small images are over in less time than the host takes to start their hundreds of kernels one by one.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor

from nst_ops.stylizers.memory import hold

Network = Callable[[Tensor], Tensor]

_USUAL_CALLS = 2  # of a shape before it is recorded: a shape that does not come again is not worth it
_MOST_SHAPES = 4
_log = logging.getLogger(__name__)


class Graphs:
    """A network on a GPU that replays its kernels for shapes that come again, to the same result.

    At most four shapes are recorded; their memory is kept, and counts as taken. Where recording fails, the network runs
    as it is. One thread at a time may call it.
    """

    def __init__(self, network: Network, device: torch.device) -> None:
        self._network, self._device = network, device
        self._calls: Counter[torch.Size] = Counter()
        self._replays: dict[torch.Size, Network] = {}
        self._held_bytes = 0
        self._is_off = False

    def __call__(self, x_bchw: Tensor, is_small: bool) -> Tensor:
        """Return the network's output, which the next call overwrites; only what ``is_small`` is recorded."""
        if replay := self._replays.get(x_bchw.shape):
            return replay(x_bchw)
        self._calls[x_bchw.shape] += 1
        is_usual = self._calls[x_bchw.shape] > _USUAL_CALLS
        if is_usual and is_small and not self._is_off and len(self._replays) < _MOST_SHAPES:
            before = kept_unused_bytes(self._device)
            try:
                self._replays[x_bchw.shape] = record(self._network, x_bchw)
            except RuntimeError as error:  # whatever it was: a device that is lost will say so again
                _log.info("no CUDA graphs: %s", str(error).splitlines()[0])
                self.release()
            else:
                held_bytes = max(0, kept_unused_bytes(self._device) - before)
                self._held_bytes += held_bytes
                hold(self._device, held_bytes)
                return self._replays[x_bchw.shape](x_bchw)
        return self._network(x_bchw)

    def release(self) -> None:
        """Give the memory back, and record nothing any more."""
        self._replays.clear()
        hold(self._device, -self._held_bytes)
        self._held_bytes, self._is_off = 0, True


def record(network: Network, x_bchw: Tensor) -> Network:
    """Record what ``network`` does to a tensor of this shape; return what replays it. Raises RuntimeError."""
    entry = x_bchw.clone(memory_format=torch.preserve_format)
    stream = torch.cuda.Stream(x_bchw.device)
    stream.wait_stream(torch.cuda.current_stream(x_bchw.device))
    with torch.cuda.stream(stream):  # libraries set themselves up for a stream at their first call there
        network(entry)
    torch.cuda.current_stream(x_bchw.device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    # Other threads go on: smoothing allocates memory, which would end a recording that watches all of the process.
    with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
        output_bchw = network(entry)

    def replay(x_bchw: Tensor) -> Tensor:
        entry.copy_(x_bchw)
        graph.replay()
        return output_bchw

    return replay


def kept_unused_bytes(device: torch.device) -> int:
    """Return the memory that torch keeps on a GPU beyond what tensors have: also that of graphs."""
    if device.type != "cuda":
        return 0
    return torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
