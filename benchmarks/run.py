"""Measure how fast nst-ops is on this machine, as ratios in one run: against bare networks, plain loops and scripts.

Run it from the root of the repository: ``python benchmarks/run.py --help``.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import av
import cv2
import numpy as np
import pyarrow.dataset as ds
import torch
from PIL import Image
from pydantic import Field
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.bare_training import train_plainly
from benchmarks.gpu.bench import Bench, picture, pictures, psnr
from benchmarks.gpu.correctness import write_vgg
from benchmarks.seed_way import plain_network, stylize_plainly
from nst_ops.config import JobConfig, ModelConfig, TemporalConfig, TrainJohnsonConfig, parse_config
from nst_ops.media.images import UInt8Array
from nst_ops.models.johnson import JohnsonNet
from nst_ops.report.text import digits
from nst_ops.stylizers import load_stylizer
from nst_ops.stylizers.device import describe, padded
from nst_ops.temporal.smoothing import MODES, load_smoother
from nst_ops.training.data import Batches, ImageSet
from nst_ops.training.loop import WARM_UP_STEPS, train
from nst_ops.training.setup import read_setup

_ROOT = Path(__file__).parents[1]
_FRAME_RATE = 25
_SD, _HD = (852, 480), (1920, 1080)
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_IDENTITY = ("--model.kind", "identity", "--temporal.mode", "none")
_STAGES = ("decode", "stylize", "smooth", "encode")
_VGG_LAYERS = 30  # of VGG19 up to relu5_1, the deepest that the default losses see


Part = Literal["machine", "network", "gpu", "images", "video", "hd_video", "recode", "smoothing", "training"]


class RunBenchmarkConfig(JobConfig):
    """Measure how fast stylizing is on this machine, each figure beside what it is to be compared with."""

    epilog: ClassVar[str] = """\
examples:
  python benchmarks/run.py                      # some minutes on two cores
  python benchmarks/run.py --suite full --output benchmarks/run.json
  python benchmarks/run.py --only '[network, smoothing]'
"""
    suite: Literal["quick", "full"] = "quick"
    """quick: a few frames of each, in under five minutes on two cores; full: 200 frames of 480p, 600 of 1080p."""
    only: list[Part] = Field(default_factory=list)
    """Parts to measure. Default: all."""
    checkpoint: str = "starry_night"
    """Network that is measured: a shipped style, a file or a URI."""
    output: str = ""
    """JSON file to write the figures to. Default: none."""


@dataclass(frozen=True)
class Result:
    """A line of the table: what was measured beside what; ``ratio`` is more where nst-ops is quicker.

    Whole commands count with their start, on all cores and with their bytecode compiled; everything else is the time of
    the call alone.
    """

    name: str
    ours: float
    reference: float | None = None
    unit: str = "s"
    against: str = ""
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """How many times as quick it is as the reference."""
        if self.reference is None:
            return None
        return self.reference / self.ours if self.unit.startswith("s") else self.ours / self.reference


def machine() -> Iterator[Result]:
    """Ceilings of this machine: matrix products and copies."""
    for name in ("fp32", "bf16"):
        yield Result(f"matrix products in {name}", _matrix_rate(name) / 1e9, unit="GFLOP/s")
    source = torch.empty(2**28, dtype=torch.uint8).fill_(1)
    yield Result("copies", 2 * 2**28 / _median_s(partial(torch.empty_like(source).copy_, source)) / 1e9, unit="GB/s")


@cache
def _matrix_rate(precision: str) -> float:
    """Return the FLOP/s of a large matrix product."""
    a, b = (torch.randn(2048, 2048).to(_DTYPES[precision]) for _ in range(2))
    return 2 * 2048**3 / _median_s(partial(torch.mm, a, b))


def _flops(checkpoint: str, height: int, width: int) -> int:
    """Return the FLOP of the plain network for a frame, without the margins that ours adds."""
    sides = (padded(side, JohnsonNet.stride) for side in (height, width))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        plain_network(checkpoint).to("meta")(torch.empty(1, 3, *sides, device="meta"))
    return int(counter.get_total_flops())


def network(checkpoint: str, repeats: int) -> Iterator[Result]:
    """One frame through the network, against the same weights in fp32 with torch's own layers.

    Those are in a process of their own: a stylizer changes how its process holds memory.
    """
    model = ModelConfig(checkpoint=checkpoint, device="cpu")
    stylizer, exact = load_stylizer(model), load_stylizer(model.model_copy(update={"precision": "fp32"}))
    with multiprocessing.get_context("spawn").Pool(1) as plain:
        for width, height in (_SD, (256, 256)):
            (frame_hwc,) = pictures(1, height, width)
            ours = partial(stylizer, frame_hwc[None])
            seed = partial(plain.apply, _stylize_plainly, (checkpoint, width, height))
            quality = psnr(ours(), exact(frame_hwc[None]))
            ours_s, seed_s = _in_turn(ours, seed, repeats=repeats)
            precision = describe(stylizer)[1] or "fp32"
            share = _flops(checkpoint, height, width) / _matrix_rate(precision) / ours_s
            note = f"{quality:.0f} dB to fp32, {share:.0%} of the roofline"
            yield Result(f"network, {width}x{height}", ours_s, seed_s, against="fp32, eager", note=note)


def _stylize_plainly(checkpoint: str, width: int, height: int) -> None:
    stylize_plainly(_plain_network(checkpoint), _picture(width, height))


_plain_network = cache(plain_network)  # once in a process


@cache
def _picture(width: int, height: int) -> Image.Image:
    return Image.fromarray(pictures(1, height, width)[0])


def gpu(checkpoint: str) -> Iterator[Result]:
    """Share of the time that kernels run while the stylizer works; nothing where there is no GPU."""
    if not torch.cuda.is_available():
        return
    from benchmarks.gpu.timings import profiled

    bench = Bench(torch.device("cuda"), Path(), [])
    stylizer = load_stylizer(ModelConfig(checkpoint=checkpoint, device="cuda"))
    for width, height, count in ((*_HD, 4), (256, 256, 32)):
        found = profiled(bench, partial(stylizer, pictures(count, height, width)), 4)
        name = f"GPU busy by kernel time, {width}x{height} x {count}"
        yield Result(name, 100 * found["busy_share"], unit="%", note=f"{found['device_ms']:.1f} ms of kernels")


def images(checkpoint: str, folder: Path, count: int) -> Iterator[Result]:
    """Images of 256 px and photographs of 12 megapixels through the whole command, against the bare stylizer."""
    stylizer = load_stylizer(ModelConfig(checkpoint=checkpoint, device="cpu"))
    for name, number, side, max_side in (
        ("256 px", count, 256, None),
        ("12 megapixels to 512 px", count // 4, 4000, 512),
    ):
        source = folder / name.replace(" ", "_")
        source.mkdir()
        size = (side, side * 3 // 4) if side > 256 else (side, side)
        for index, image_hwc in enumerate(pictures(min(number, 8), size[1], size[0])):
            Image.fromarray(image_hwc).save(source / f"{index}.jpg", quality=92)
        for index in range(8, number):
            shutil.copy(source / f"{index % 8}.jpg", source / f"{index}.jpg")
        options = ["--model.checkpoint", checkpoint, *(["--resize.max_side", str(max_side)] if max_side else [])]
        command_s, note = _command(source, folder / f"{source.name}.out", *options)
        work = (max_side or side, (max_side or side) * size[1] // size[0])
        (frame_hwc,) = pictures(1, work[1], work[0])
        bare_s = number * _median_s(partial(stylizer, frame_hwc[None]))
        yield Result(f"{number} images of {name}", command_s, bare_s, against="bare stylizer", note=note)


def video(checkpoint: str, folder: Path, num_frames: int) -> Iterator[Result]:
    """A video through the whole command with smoothing, against the bare stylizer and against a plain script."""
    width, height = _SD
    path = folder / "sd" / "video.mp4"
    write_video(path, num_frames, width, height)
    command_s, note = _command(path.parent, folder / "sd.out", "--model.checkpoint", checkpoint)
    seed_s, seed_note = _seed_way(path, folder / "seed.mp4", checkpoint)
    stylizer = load_stylizer(ModelConfig(checkpoint=checkpoint, device="cpu"))
    (frame_hwc,) = pictures(1, height, width)
    bare_s = num_frames * _median_s(partial(stylizer, frame_hwc[None]))
    name = f"{num_frames} frames of {width}x{height}, smoothed"
    yield Result(name, command_s, seed_s, against="a script by way of JPEGs", note=f"{note}; {seed_note}")
    yield Result(name, command_s, bare_s, against="bare stylizer")
    start_s = _start_s(folder, "--model.checkpoint", checkpoint)
    yield Result(f"{name}, start left out", command_s - start_s, bare_s, against="bare stylizer")


def hd_video(checkpoint: str, folder: Path, num_frames: int) -> Iterator[Result]:
    """A video of 1080p through the whole command with smoothing, against the bare stylizer."""
    path = folder / "hd_smoothed" / "video.mp4"
    write_video(path, num_frames, *_HD)
    command_s, note = _command(path.parent, folder / "hd_smoothed.out", "--model.checkpoint", checkpoint)
    stylizer = load_stylizer(ModelConfig(checkpoint=checkpoint, device="cpu"))
    (frame_hwc,) = pictures(1, *_HD[::-1])
    bare_s = num_frames * _median_s(partial(stylizer, frame_hwc[None]), repeats=2)
    yield Result(f"{num_frames} frames of 1080p, smoothed", command_s, bare_s, against="bare stylizer", note=note)


def recode(folder: Path, num_frames: int) -> Iterator[Result]:
    """A video of 1080p through the command without a network, against a plain loop and ffmpeg."""
    path = folder / "hd" / "video.mp4"
    write_video(path, num_frames, *_HD)
    command_s, note = _command(path.parent, folder / "hd.out", *_IDENTITY)
    plain_s, plain_note = _seed_way(path, folder / "plain.mp4")
    name = f"{num_frames} frames of 1080p, identity"
    yield Result(name, command_s, plain_s, against="a plain PyAV loop", note=f"{note}; {plain_note}")
    start_s = _start_s(folder, *_IDENTITY)
    yield Result(f"{name}, start left out", command_s - start_s, plain_s, against="a plain PyAV loop")
    if ffmpeg := shutil.which("ffmpeg"):
        started = time.perf_counter()
        command = [ffmpeg, "-v", "error", "-i", str(path), "-crf", "18", str(folder / "ffmpeg.mp4")]
        subprocess.run(command, check=True)
        yield Result(name, command_s, time.perf_counter() - started, against="ffmpeg")


def smoothing(num_frames: int) -> Iterator[Result]:
    """Seconds of a core that each mode of smoothing takes for a frame of 1080p, against that of the encoder."""
    width, height = _HD
    cv2.setNumThreads(1)  # as in a worker whose network is on the CPU
    source = pictures(num_frames + 8, height, width)
    noise = np.random.default_rng(0).integers(-12, 13, (4, height, width, 3))
    stylized = [np.clip(frame + noise[i % 4], 0, 255).astype(np.uint8) for i, frame in enumerate(source)]
    for mode in MODES:
        if mode == "none":
            continue
        smoother = load_smoother(TemporalConfig.model_validate({"mode": mode}), "cpu")
        for pair in zip(source[:8], stylized, strict=False):
            smoother.push(*pair)
        started = time.process_time()
        for pair in zip(source[8:], stylized[8:], strict=True):
            smoother.push(*pair)
        yield Result(f"smoothing of 1080p, {mode}", (time.process_time() - started) / num_frames, unit="s of a core")


def training(folder: Path, batch_size: int, steps: int) -> Iterator[Result]:
    """Seconds of an image in the training loop, against a bare loop in fp32; a VGG of random weights serves both."""
    folder = folder / "training"
    folder.mkdir()
    Image.fromarray(picture(256, 256, 9)).save(folder / "style.png")
    config = TrainJohnsonConfig.model_validate(
        {
            "data": {"content": "unused"},
            "style": str(folder / "style.png"),
            "style_side": 256,
            "output": "unused",
            "loss": {"weights": str(write_vgg(folder, _VGG_LAYERS))},
            "train": {"batch_size": batch_size, "steps": steps + WARM_UP_STEPS, "save_every": 10**6},
        }
    )
    number = max(8, batch_size)
    images = ImageSet([pictures(number, config.resize, config.resize)], [(0, row) for row in range(number)])
    batches = Batches(images, batch_size, config.train.image_size, 0)
    bare_s = train_plainly(read_setup(config), batches, config, steps)
    step = read_setup(config).step(config, torch.device("cpu"))
    speed = train(step, batches, config.train)
    name = f"training, {config.train.image_size} px, batches of {batch_size}"
    note = f"{step.precision.name}, {speed.data_wait_share:.0%} waiting for images"
    yield Result(name, 1 / speed.images_per_s, bare_s, unit="s per image", against="a bare loop in fp32", note=note)


def write_video(path: Path, num_frames: int, width: int, height: int) -> None:
    """Write a video of pictures that move, H.264 with sound, of the given size."""
    path.parent.mkdir(parents=True)
    with av.open(str(path), "w") as container:
        options = {"preset": "veryfast", "crf": "18", "g": "50"}
        stream: Any = container.add_stream("libx264", rate=_FRAME_RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        around: UInt8Array = pictures(1, height + 64, width + 64)[0]
        for index in range(num_frames):
            x, y = (round(32 + 31 * turn(index / 9)) for turn in (np.sin, np.cos))
            view = np.ascontiguousarray(around[y : y + height, x : x + width])
            frame = av.VideoFrame.from_ndarray(view, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, _FRAME_RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _command(source: Path, output: Path, *options: str) -> tuple[float, str]:
    """Run ``nst-ops stylize``; return its seconds, and as a note those of its stages and the peak of its memory."""
    started = time.perf_counter()
    paths = ["--input", str(source), "--output", str(output)]
    usage = _python("-m", "nst_ops", "stylize", *paths, "--model.device", "cpu", "--executor", "local", *options)
    elapsed_s = time.perf_counter() - started
    rows = ds.dataset(output / "manifest").to_table().to_pylist()
    assert all(row["status"] == "ok" for row in rows), rows
    stages = ", ".join(f"{stage} {sum(row[f'{stage}_s'] for row in rows):.1f}" for stage in _STAGES)
    peak_mib = usage.ru_maxrss / 1024
    return elapsed_s, f"{stages} s; {_core_s(usage):.1f} s of a core; peak of its largest process {peak_mib:,.0f} MiB"


def _seed_way(source: Path, output: Path, *checkpoint: str) -> tuple[float, str]:
    """Run the way of most scripts; return its seconds, and as a note those of a core."""
    started = time.perf_counter()
    usage = _python("-m", "benchmarks.seed_way", str(source), str(output), *checkpoint)
    return time.perf_counter() - started, f"the other {_core_s(usage):.1f} s of a core"


def _start_s(folder: Path, *options: str) -> float:
    """Return the seconds of the command for a video of one small frame."""
    name = f"start{len(list(folder.iterdir()))}"
    write_video(folder / name / "video.mp4", 1, 64, 48)
    return _command(folder / name, folder / f"{name}.out", *options)[0]


def _compile(checkpoint: str, folder: Path) -> None:
    """Run each command once on a small frame: what it compiles counts in none that is timed."""
    _start_s(folder, "--model.checkpoint", checkpoint)
    _start_s(folder, *_IDENTITY)
    path = folder / "compile" / "video.mp4"
    write_video(path, 1, 64, 48)
    for network in ((), (checkpoint,)):
        _seed_way(path, path.with_name("plain.mp4"), *network)


@cache
def _bytecode() -> tempfile.TemporaryDirectory[str]:
    """Make the folder for the bytecode of all commands, which users have from their first run on."""
    return tempfile.TemporaryDirectory(prefix="nst-ops-bytecode-")


def _core_s(usage: resource.struct_rusage) -> float:
    """Return the seconds that a program and what it started had a core: less than others beside it disturb them."""
    return usage.ru_utime + usage.ru_stime


def _python(*arguments: str) -> resource.struct_rusage:
    """Run a program; return what it used, with all that it started."""
    paths = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH", "")]))
    command = [sys.executable, *arguments]
    with tempfile.TemporaryFile() as errors:
        environment = {**os.environ, "PYTHONPATH": paths, "PYTHONPYCACHEPREFIX": _bytecode().name}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=errors, cwd=_ROOT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            errors.seek(0)
            raise RuntimeError(f"{' '.join(arguments)}: {errors.read().decode()[-2000:]}")
    return usage


def _median_s(call: Callable[[], object], repeats: int = 5) -> float:
    return _in_turn(call, repeats=repeats)[0]


def _in_turn(*calls: Callable[[], object], repeats: int) -> list[float]:
    """Return the median seconds of each call; they take turns, so that what else the machine does meets all."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(repeats + 1):
        for call, found in zip(calls, times, strict=True):
            started = time.perf_counter()
            call()
            found.append(time.perf_counter() - started)
    return [statistics.median(found[1:]) for found in times]  # the first one pays for the others


def show(results: list[Result]) -> None:
    """Print the table."""
    table = Table(title="higher ratios are better", title_justify="left")
    for column in ("measured", "ours", "against", "reference", "ratio", "note"):
        table.add_column(column, justify="right" if column in ("ours", "reference", "ratio") else "left")
    for result in results:
        reference = "" if result.reference is None else f"{digits(result.reference)} {result.unit}"
        ratio = "" if result.ratio is None else digits(result.ratio)
        ours = f"{digits(result.ours)} {result.unit}"
        table.add_row(result.name, ours, result.against, reference, ratio, result.note)
    Console().print(table)


def main() -> int:
    """Measure, print, and write the figures."""
    config = parse_config(RunBenchmarkConfig)
    full, name = config.suite == "full", config.checkpoint
    started, results = time.monotonic(), list[Result]()
    with tempfile.TemporaryDirectory(prefix="nst-ops-") as scratch:
        folder = Path(scratch)
        parts: dict[str, Callable[[], Iterator[Result]]] = {
            "machine": machine,
            "network": partial(network, name, 9 if full else 3),
            "gpu": partial(gpu, name),
            "images": partial(images, name, folder, 400 if full else 64),
            "video": partial(video, name, folder, 200 if full else 32),
            "hd_video": partial(hd_video, name, folder, 100 if full else 4),
            "recode": partial(recode, folder, 600 if full else 150),
            "smoothing": partial(smoothing, 24 if full else 6),
            "training": partial(training, folder, 4 if full else 2, 12 if full else 2),
        }
        if {"images", "video", "hd_video", "recode"} & set(config.only or parts):
            _compile(name, folder)
        for part in config.only or parts:
            for result in parts[part]():
                results.append(result)
                print(f"{time.monotonic() - started:5.0f} s  {result.name}", file=sys.stderr)
    show(results)
    if config.output:
        record = {
            "command": " ".join(["python", *sys.argv]),
            "machine": platform.machine(),
            "cores": os.cpu_count(),
            "torch": torch.__version__,
            "results": [{**asdict(result), "ratio": result.ratio} for result in results],
        }
        Path(config.output).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
