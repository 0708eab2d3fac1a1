"""The network of an ONNX file, run by onnxruntime.

Shapes: N images, H and W pixels; x and y are what goes into the network and what comes out of it.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nst_ops.media.errors import NetworkError
from nst_ops.models.onnx_files import bytes_per_pixel, read_onnx, refuse_what_does_not_run
from nst_ops.models.weights import CheckpointError

FloatArray = NDArray[np.float32]

SMALLEST_SIDE = 64
"""Side in pixels up to which smaller frames are padded: networks are tried with no smaller ones."""

# Values of a color in [0, 1] to those of a range: the factor, then what is added. ImageNet's mean and deviation.
_MEAN, _STD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
RANGES: dict[str, tuple[Any, Any]] = {
    "unit": (1, 0),
    "symmetric": (2, -1),
    "byte": (255, 0),
    "imagenet": (1 / _STD, -_MEAN / _STD),
}
"""The known ranges by name."""

_DTYPES = {"tensor(float)": torch.float32, "tensor(float16)": torch.float16, "tensor(uint8)": torch.uint8}
_CHANNEL_AXIS = {"nchw": 1, "nhwc": 3}
_OUT_OF_MEMORY = "Failed to allocate memory", "bad_alloc", "out of memory"
_DEVICE_FAILED = "CUDA failure", "CUDNN failure", "CUBLAS failure"


class OnnxNetwork:
    """The network of an ONNX file; several threads may call it at once.

    Args:
        path: the file.
        device: where it runs.
        layout: ``nchw``, ``nhwc``, or ``auto``: by the shape of its input.

    Raises:
        CheckpointError: it cannot be used, or not there; the message says why and what to do.
    """

    def __init__(self, path: Path, device: torch.device, layout: str = "auto") -> None:
        self.path, self.device = path, device
        model = read_onnx(path)
        refuse_what_does_not_run(path, model)
        self._lock = threading.Lock()
        self._sessions: dict[int, Any] = {}
        inputs = self._session().get_inputs()
        self._refuse_inputs(inputs)
        self._name, shape = inputs[0].name, inputs[0].shape
        self.dtype = _DTYPES[inputs[0].type]
        self.layout = self._layout(shape) if layout == "auto" else layout
        if shape[_CHANNEL_AXIS[self.layout]] != 3 and isinstance(shape[_CHANNEL_AXIS[self.layout]], int):
            raise self.refusal(f"takes {shape[_CHANNEL_AXIS[self.layout]]} channels", "one of color images takes 3")
        other = "nhwc" if self.layout == "nchw" else "nchw"
        if not isinstance(shape[_CHANNEL_AXIS[self.layout]], int) and shape[_CHANNEL_AXIS[other]] == 3:
            remedy = f"leave model.onnx.layout out, or give {other}"
            raise self.refusal(f"takes the shape {shape}, which is {other}", remedy)
        sides = shape[2:] if self.layout == "nchw" else shape[1:3]
        self.fixed: list[int | None] = [side if isinstance(side, int) else None for side in sides]
        """Height and width where the network takes no others."""
        self.bytes_per_pixel = bytes_per_pixel(model, self.shape(*(side or 256 for side in self.fixed)))

    def __call__(self, x_nhwc: FloatArray) -> FloatArray:
        """Run the network on images, (N, H, W, 3) in its own values; returns what it makes of them, channels last.

        Raises:
            CheckpointError: what it makes is no image.
            NetworkError: it failed.
            torch.OutOfMemoryError: it ran out of memory.
        """
        if self.dtype == torch.uint8:
            x_nhwc = np.clip(np.rint(x_nhwc), 0, 255)
        x = x_nhwc if self.layout == "nhwc" else x_nhwc.transpose(0, 3, 1, 2)
        x = np.ascontiguousarray(x, str(self.dtype).removeprefix("torch."))
        try:
            y = np.asarray(self._session().run(None, {self._name: x}, self._run_options())[0])
        except Exception as error:  # onnxruntime's own have no common base
            text = _one_line(error)
            if any(words in text for words in _OUT_OF_MEMORY):
                raise torch.OutOfMemoryError(text) from error
            if any(words in text for words in _DEVICE_FAILED):
                raise RuntimeError(f"CUDA error: {text}") from error
            _, height, width, _ = x_nhwc.shape
            raise NetworkError(f"the network failed on {width}x{height} pixels: {text}") from error
        axes = [axis for layout, axis in _CHANNEL_AXIS.items() if y.ndim == 4 and y.shape[axis] == 3]
        if not axes or y.dtype.kind not in "fu":
            raise self.refusal(f"makes a {y.dtype} of shape {y.shape}, no color image", "take one that makes images")
        same = _CHANNEL_AXIS[self.layout]
        y_nhwc = y if (same if same in axes else axes[0]) == 3 else y.transpose(0, 2, 3, 1)
        return y_nhwc.astype(np.float32, copy=False)

    def shape(self, height: int, width: int) -> tuple[int, ...]:
        """Return the shape of one input image of this size."""
        return (1, 3, height, width) if self.layout == "nchw" else (1, height, width, 3)

    def other_size(self, x_nhwc: FloatArray, y_nhwc: FloatArray) -> CheckpointError:
        """Make the error for a network that makes ``y`` of ``x``, with other sides."""
        (_, height, width, _), (_, made_height, made_width, _) = x_nhwc.shape, y_nhwc.shape
        return self.refusal(
            f"makes {made_width}x{made_height} pixels of {width}x{height}",
            "one that enlarges or shrinks is no stylizer; where sides must be multiples, give --model.onnx.stride",
        )

    def refusal(self, reason: str, remedy: str) -> CheckpointError:
        """Make the error for a network that cannot be used."""
        return CheckpointError(f"{self.path}: this network {reason}: {remedy}")

    def _session(self) -> Any:
        """Return the session for as many threads as torch has in this one."""
        threads = torch.get_num_threads() if self.device.type == "cpu" else 1
        with self._lock:
            if threads not in self._sessions:
                self._sessions[threads] = self._new_session(threads)
            return self._sessions[threads]

    def _run_options(self) -> Any:
        """Return options by which memory is given back after a run: what is free decides what is tried next."""
        import onnxruntime

        options = onnxruntime.RunOptions()
        arena = "cpu:0" if self.device.type == "cpu" else f"gpu:{self.device.index or 0}"
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", arena)
        return options

    def _new_session(self, threads: int) -> Any:
        try:
            import onnxruntime
        except ImportError as error:
            raise CheckpointError("model.kind onnx needs onnxruntime: pip install 'nst-ops[onnx]'") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 4  # errors are raised
        options.enable_mem_pattern = False  # it would plan the memory anew for every size of frames
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # decoders and encoders want the cores
        providers: list[Any] = ["CPUExecutionProvider"]
        if self.device.type == "cuda":
            on_gpu = {"device_id": self.device.index or 0, "cudnn_conv_algo_search": "HEURISTIC"}
            providers.insert(0, ("CUDAExecutionProvider", on_gpu))
            if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
                raise CheckpointError(
                    f"model.device {self.device}: this onnxruntime has no CUDA: pip install onnxruntime-gpu in its "
                    "place, or give --model.device cpu"
                )
        try:
            session = onnxruntime.InferenceSession(str(self.path), options, providers)
        except Exception as error:  # onnxruntime's own have no common base
            raise CheckpointError(f"{self.path}: onnxruntime does not load it: {_one_line(error)}") from error
        if len(session.get_providers()) < len(providers):  # it only warns, and would take the CPU
            raise CheckpointError(
                f"model.device {self.device}: onnxruntime {onnxruntime.__version__} cannot use it: install the CUDA "
                "and cuDNN that it is built for, or give --model.device cpu"
            )
        return session

    def _refuse_inputs(self, inputs: Sequence[Any]) -> None:
        """Raise CheckpointError unless there is one, a batch of one image or of any number."""
        if len(inputs) > 1:
            other = next((value for value in inputs if len(value.shape) != 4), inputs[1])
            raise self.refusal(
                f"takes '{other.name}' beside the image",
                "export it with a constant there; networks that take a style are imported for model.kind multi_style "
                "and any_style, see docs/styles.md",
            )
        if not inputs:
            raise self.refusal("takes no input", "take one that takes an image")
        shape = inputs[0].shape
        if inputs[0].type not in _DTYPES:
            raise self.refusal(f"takes a {inputs[0].type}", "export it for float, float16 or uint8")
        if len(shape) != 4:
            raise self.refusal(f"takes {len(shape)} axes", "export it for four, such as batch, channels, height, width")
        if isinstance(shape[0], int) and shape[0] != 1:
            raise self.refusal(f"takes {shape[0]} images at once", "export it for a batch of one, or of any size")

    def _layout(self, shape: Sequence[Any]) -> str:
        """Return the layout by the shape of the input; CheckpointError where that does not say."""
        found = [layout for layout, axis in _CHANNEL_AXIS.items() if shape[axis] == 3]
        if len(found) == 1:
            return found[0]
        if isinstance(shape[1], int) and isinstance(shape[3], int):
            raise self.refusal(f"takes images of shape {tuple(shape)}", "one of color images takes 3 channels")
        raise self.refusal("does not say which axis has the channels", "give --model.onnx.layout nchw or nhwc")


def to_values(rgb_nhwc: FloatArray, input_range: str) -> FloatArray:
    """Return colors in [0, 1] as the values of a range."""
    factor, offset = (np.asarray(value, np.float32) for value in RANGES[input_range])
    return rgb_nhwc * factor + offset


def from_values(y_nhwc: FloatArray, output_range: str) -> FloatArray:
    """Return values of a range as colors, those in it in [0, 1]."""
    factor, offset = (np.asarray(value, np.float32) for value in RANGES[output_range])
    return (y_nhwc - offset) / factor


def _one_line(error: Exception) -> str:
    """Return what an error of onnxruntime says, without its code and the file, in one line."""
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : (Load model from .* failed:)?", "", str(error), flags=re.DOTALL)
    return " ".join(text.split())[:300] or type(error).__name__
