"""How fast it is on a GPU: the machine, single layers, the network, images and videos through a worker, training."""

from __future__ import annotations

import copy
import itertools
import os
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from benchmarks.gpu.bench import Bench, Figures, check, picture, pictures
from benchmarks.gpu.correctness import folded, shipped, stylizer_of, write_vgg
from nst_ops.collection.units import Item, item_id, unit_of
from nst_ops.config import StylizeConfig, TrainJohnsonConfig
from nst_ops.config.stylize import TemporalConfig, VideoConfig
from nst_ops.media.video.encoders import nvenc_problem
from nst_ops.models.johnson import InstanceNorm, JohnsonNet
from nst_ops.pipeline.run_spec import new_run_spec
from nst_ops.pipeline.worker import Worker
from nst_ops.stylizers.device import pad, to_frames, to_network
from nst_ops.temporal.smoothing import load_smoother
from nst_ops.training.data import Batches, ImageSet
from nst_ops.training.loop import train
from nst_ops.training.setup import read_setup
from nst_ops.training.step import TrainingStep

_LAYOUT_KERNELS = ("nchwToNhwc", "nhwcToNchw", "nchwToFold", "transpose")
"""Parts of the names of kernels that only change the layout; copies that do are counted apart."""
_NOTES = ("Optimizer.", "Torch-Compiled", "CompiledFxGraph", "ProfilerStep", "## ")
"""Parts of the names of events that stand around kernels, and would count them twice."""


@check(limit_s=60)
def layers(bench: Bench) -> Figures:
    """Ways to pad, to normalize, to enlarge and to convolve at 1080p in channels-last, with the layout each leaves."""
    figures: Figures = {}
    height, width = bench.pick((1080, 1920), (64, 96))
    dtype = bench.pick(torch.float16, torch.float32)

    def random(channels: int, scale: int, count: int = 1) -> Tensor:
        x = torch.randn(count, channels, height // scale, width // scale, device=bench.device, dtype=dtype)
        return x.contiguous(memory_format=torch.channels_last)

    full, half, deep, two = random(32, 1), random(64, 2), random(128, 4), random(32, 1, 2)
    weight32, bias32 = torch.rand(32, device=bench.device), torch.rand(32, device=bench.device)
    rows, columns = _reflected(height, 4, bench.device), _reflected(width, 4, bench.device)
    low_weight, low_bias = weight32.to(dtype), bias32.to(dtype)
    norm = InstanceNorm(32).to(bench.device)

    def fp32_affine(x: Tensor) -> Tensor:
        var, mean = torch.var_mean(x.float(), dim=(2, 3), correction=0, keepdim=True)
        scale = weight32[:, None, None] * torch.rsqrt(var + 1e-5)
        return torch.addcmul(bias32[:, None, None] - mean * scale, x.float(), scale).to(x.dtype)

    def fp32_into(x: Tensor) -> Tensor:
        var, mean = torch.var_mean(x.float(), dim=(2, 3), correction=0, keepdim=True)
        scale = weight32[:, None, None] * torch.rsqrt(var + 1e-5)
        return torch.addcmul(bias32[:, None, None] - mean * scale, x, scale, out=torch.empty_like(x))

    def centered(x: Tensor) -> Tensor:
        var, mean = torch.var_mean(x, dim=(2, 3), correction=0, keepdim=True)
        scale = weight32[:, None, None] * torch.rsqrt(var.float() + 1e-5)
        return torch.addcmul(bias32[:, None, None].to(x.dtype), x - mean, scale.to(x.dtype))

    def nhwc_moments(x: Tensor) -> Tensor:
        flat = x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, x.shape[1])
        var, mean = torch.var_mean(flat.float(), dim=1, correction=0)
        scale = weight32 * torch.rsqrt(var + 1e-5)
        shift = bias32 - mean * scale
        return torch.addcmul(shift[:, :, None, None].to(x.dtype), x, scale[:, :, None, None].to(x.dtype))

    def by_batch_norm(x: Tensor) -> Tensor:
        parts = [F.batch_norm(one[None], None, None, low_weight, low_bias, training=True) for one in x]
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    ones = torch.ones(1, height * width, device=bench.device, dtype=dtype)

    def by_matmul(x: Tensor) -> Tensor:
        flat = x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, x.shape[1])
        mean = torch.matmul(ones / (height * width), flat)
        square = torch.matmul(ones / (height * width), flat * flat)
        scale = weight32 * torch.rsqrt((square - mean * mean).float() + 1e-5)
        return torch.addcmul(
            (bias32 - mean * scale).to(x.dtype).view(-1, 32, 1, 1), x, scale.to(x.dtype).view(-1, 32, 1, 1)
        )

    conv9 = torch.nn.Conv2d(32, 3, 9).to(bench.device, dtype).to(memory_format=torch.channels_last)
    conv9_first = torch.nn.Conv2d(3, 32, 9).to(bench.device, dtype).to(memory_format=torch.channels_last)
    conv3 = torch.nn.Conv2d(128, 128, 3).to(bench.device, dtype).to(memory_format=torch.channels_last)
    conv3_bare = torch.nn.Conv2d(128, 128, 3, bias=False).to(conv3.weight).to(memory_format=torch.channels_last)
    conv_up = torch.nn.Conv2d(64, 32, 3).to(bench.device, dtype).to(memory_format=torch.channels_last)
    ways: dict[str, Callable[[], Tensor]] = {
        "pad 32ch: F.pad reflect": lambda: F.pad(full, (4,) * 4, mode="reflect"),
        "pad 32ch: two indexings": lambda: full[:, :, rows][:, :, :, columns],
        "pad 32ch: index_select": lambda: full.index_select(2, rows).index_select(3, columns),
        "pad 32ch: one indexing": lambda: full[:, :, rows[:, None], columns],
        "pad 32ch: NHWC indexing": lambda: full.permute(0, 2, 3, 1)[:, rows[:, None], columns].permute(0, 3, 1, 2),
        "pad 32ch: zeros and edges": lambda: _edges(full, 4),
        "pad 128ch: F.pad reflect": lambda: F.pad(deep, (1,) * 4, mode="reflect"),
        "pad 128ch: zeros and edges": lambda: _edges(deep, 1),
        "norm 32ch: as it is": lambda: norm(full),
        "norm 32ch: addcmul in fp32": lambda: fp32_affine(full),
        "norm 32ch: addcmul in fp32 into half": lambda: fp32_into(full),
        "norm 32ch: centered": lambda: centered(full),
        "norm 32ch: moments over rows": lambda: nhwc_moments(full),
        "norm 32ch: matrix product": lambda: by_matmul(full),
        "norm 32ch: group_norm": lambda: F.group_norm(full, 32, low_weight, low_bias),
        "norm 32ch: instance_norm": lambda: F.instance_norm(full, weight=low_weight, bias=low_bias),
        "norm 32ch: batch_norm": lambda: by_batch_norm(full),
        "norm 32ch x 2: as it is": lambda: norm(two),
        "norm 32ch x 2: group_norm": lambda: F.group_norm(two, 32, low_weight, low_bias),
        "norm 32ch x 2: batch_norm each": lambda: by_batch_norm(two),
        "enlarge 64ch: nearest": lambda: F.interpolate(half, scale_factor=2, mode="nearest"),
        "enlarge 64ch: bilinear": lambda: F.interpolate(half, scale_factor=2, mode="bilinear"),
        "relu 32ch": lambda: F.relu(full),
        "relu 32ch in place": lambda: F.relu_(full),
        "conv 128ch 3x3": lambda: conv3(deep),
        "conv 128ch 3x3 without bias": lambda: conv3_bare(deep),
        "conv 64 to 32ch 3x3 full size": lambda: conv_up(random_full),
        "conv 32 to 3ch 9x9": lambda: conv9(full),
        "conv 3 to 32ch 9x9": lambda: conv9_first(rgb),
    }
    random_full, rgb = random(64, 1), random(3, 1)
    with torch.inference_mode():
        for name, way in ways.items():
            try:
                out = way()
                layout = "NHWC" if out.is_contiguous(memory_format=torch.channels_last) else "NCHW or other"
                figures[name] = {"ms": bench.on_device_ms(way, 5), "layout": layout}
            except RuntimeError as error:
                figures[name] = {"error": str(error).splitlines()[0][:200]}
        if not bench.small:
            torch.backends.cudnn.benchmark = True
            for name in ("conv 128ch 3x3", "conv 64 to 32ch 3x3 full size", "conv 32 to 3ch 9x9", "conv 3 to 32ch 9x9"):
                figures[f"{name}, cudnn.benchmark"] = {"ms": bench.on_device_ms(ways[name], 5)}
            torch.backends.cudnn.benchmark = False
    return figures


def _reflected(side: int, margin: int, device: torch.device) -> Tensor:
    return torch.from_numpy(np.pad(np.arange(side), margin, mode="reflect")).to(device)


def _edges(x: Tensor, margin: int) -> Tensor:
    """Pad with nothing, then copy the mirrored edges: what is inside is copied once."""
    count, channels, height, width = x.shape
    size = count, channels, height + 2 * margin, width + 2 * margin
    out = torch.empty(size, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    inside = slice(margin, margin + width)
    out[:, :, margin : margin + height, inside] = x
    out[:, :, :margin, inside] = x[:, :, 1 : margin + 1].flip(2)
    out[:, :, margin + height :, inside] = x[:, :, -margin - 1 : -1].flip(2)
    out[:, :, :, :margin] = out[:, :, :, margin + 1 : 2 * margin + 1].flip(3)
    out[:, :, :, margin + width :] = out[:, :, :, width - 1 : margin + width - 1].flip(3)
    return out


def prepared(bench: Bench, model: JohnsonNet, dtype: torch.dtype, count: int, height: int, width: int) -> Any:
    """Return a network on the device and its input."""
    network = copy.deepcopy(model).without_idle_biases().to(bench.device, dtype).to(memory_format=torch.channels_last)
    x = pad(to_network(pictures(min(count, 4), height, width), bench.device, dtype), JohnsonNet.stride, 12)
    return network, x.repeat(-(-count // len(x)), 1, 1, 1)[:count].contiguous(memory_format=torch.channels_last)


@check(limit_s=60)
def network(bench: Bench) -> Figures:
    """The network alone: sizes, batches, precisions; as it runs, and replayed as a graph."""
    figures: Figures = {}
    model = shipped("starry_night") if not bench.small else folded(4)
    small, medium, large = ((256, 256, (1, 4, 16, 32, 64)), (720, 1280, (1, 4, 8)), (1080, 1920, (1, 2, 4)))
    on_gpu = [(height, width, n) for height, width, counts in (small, medium, large) for n in counts]
    cases = bench.pick(on_gpu, [(64, 64, 1), (64, 64, 2)])
    dtypes = bench.pick((torch.float16, torch.bfloat16), (torch.bfloat16,))
    for (height, width, count), dtype in itertools.product(cases, dtypes):
        if dtype == torch.bfloat16 and not bench.small and count not in (1, 32):
            continue
        name = f"{width}x{height} x {count} {str(dtype).removeprefix('torch.')}"
        net, x = prepared(bench, model, dtype, count, height, width)
        with torch.inference_mode():
            eager = bench.on_device_ms(partial(net, x), 6) / count
            figures[name] = {"eager_ms_per_frame": eager}
            if dtype == torch.float16 and not bench.small:
                graph = _graph(net, x)
                figures[name]["graph_ms_per_frame"] = bench.on_device_ms(graph.replay, 6) / count
                del graph
        del net, x
        bench.free()
    return figures


def _graph(net: Callable[[Tensor], Tensor], x: Tensor) -> torch.cuda.CUDAGraph:
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            net(x)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        net(x)
    return graph


@check(limit_s=60)
def kernels(bench: Bench) -> Figures:
    """What the device does in one frame of 1080p and in one batch of small images, kernel by kernel."""
    figures: Figures = {}
    model = shipped("starry_night") if not bench.small else folded(4)
    for name, (count, height, width) in {
        "1080p": bench.pick((1, 1080, 1920), (1, 64, 96)),
        "256px x 32": bench.pick((32, 256, 256), (2, 64, 64)),
    }.items():
        stylizer = stylizer_of(bench, model, "auto")
        frames = pictures(min(count, 4), height, width)
        frames = np.concatenate([frames] * (-(-count // len(frames))))[:count]
        figures[name] = profiled(bench, partial(stylizer, frames), 4)
        figures[f"{name}: busy share"] = figures[name]["busy_share"]
        layout_share = figures[f"{name}: layout share"] = figures[name]["layout_share"]
        bench.expect(f"{name}, share of kernels that only change the layout", layout_share, at_most=0.01)
    return figures


def profiled(bench: Bench, call: Callable[[], object], repeats: int) -> Figures:
    """Return the time of the kernels of a call by name, copies, and the share of the time that the device was busy."""
    from torch.profiler import ProfilerActivity, profile

    for _ in range(bench.pick(4, 1)):
        call()
    bench.synchronize()
    activities = [ProfilerActivity.CPU] + ([] if bench.small else [ProfilerActivity.CUDA])
    with profile(activities=activities) as profiler:
        started = time.perf_counter()
        for _ in range(repeats):
            call()
        bench.synchronize()
        elapsed_ms = 1000 * (time.perf_counter() - started) / repeats
    times: defaultdict[str, float] = defaultdict(float)
    counts: Counter[str] = Counter()
    host: Counter[str] = Counter()
    for event in profiler.events() or []:
        if str(event.device_type).endswith("CUDA"):
            if not any(part in event.name for part in _NOTES):
                times[event.name] += event.time_range.elapsed_us()
                counts[event.name] += 1
        elif event.name.startswith(("cudaStreamSynchronize", "cudaMemcpy", "cudaDeviceSynchronize", "aten::item")):
            host[event.name] += 1
    total = sum(times.values()) or 1.0
    layout = sum(us for name, us in times.items() if any(part.lower() in name.lower() for part in _LAYOUT_KERNELS))
    return {
        "elapsed_ms": elapsed_ms,
        "device_ms": total / 1000 / repeats,
        "busy_share": total / 1000 / repeats / elapsed_ms,
        "layout_share": layout / total,
        "kernels": sum(counts.values()) / repeats,
        "host_calls": {name: number / repeats for name, number in host.items()},
        "by_name": {
            name[:110]: {"ms": us / 1000 / repeats, "share": us / total, "count": counts[name] / repeats}
            for name, us in sorted(times.items(), key=lambda item: -item[1])[:22]
        },
    }


@check(limit_s=40)
def stylizer(bench: Bench) -> Figures:
    """Frames from the host through the stylizer and back: small images in batches, and 1080p."""
    figures: Figures = {}
    model = shipped("starry_night") if not bench.small else folded(4)
    of = stylizer_of(bench, model)
    number = bench.pick(2000, 4)
    small = np.concatenate([pictures(4, *bench.pick((256, 256), (64, 64)))] * 16)
    for batch in bench.pick((4, 32, 64), (2,)):
        frames = small[:batch]
        of(frames)
        bench.synchronize()
        started = time.perf_counter()
        for _ in range(-(-number // batch)):
            of(frames)
        per_s = -(-number // batch) * batch / (time.perf_counter() - started)
        figures[f"256px_batch_{batch}_images_per_s"] = per_s
    figures["256px_images_per_s"] = max(value for key, value in figures.items() if key.startswith("256px_batch"))
    for count in bench.pick((1, 4, 8), (1,)):
        frames = pictures(count, *bench.pick((1080, 1920), (64, 96)))
        figures[f"1080p_batch_{count}_frames_per_s"] = 1000 * count / bench.milliseconds(partial(of, frames), 1.0, 10)
        x = to_network(frames, bench.device, of.dtype)
        figures[f"1080p_batch_{count}_up_ms"] = bench.milliseconds(
            partial(to_network, frames, of.device, of.dtype), 0.2
        )
        figures[f"1080p_batch_{count}_pad_ms"] = bench.milliseconds(partial(pad, x, 4, 12), 0.2)
        figures[f"1080p_batch_{count}_down_ms"] = bench.milliseconds(partial(to_frames, x), 0.2)
    return figures


def write_video(path: Path, num_frames: int, height: int, width: int, frame_rate: int = 25) -> None:
    """Write a picture that drifts, as H.264."""
    scene = picture(height + 160, width + 240)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=frame_rate, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for i in range(num_frames):
            top, left = abs((2 * i) % 300 - 150), abs((3 * i) % 460 - 230)
            view = np.ascontiguousarray(scene[top : top + height, left : left + width])
            frame = av.VideoFrame.from_ndarray(view, format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, frame_rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _item(folder: Path, name: str, kind: str, style: str) -> Item:
    uri = str(folder / name)
    size = (folder / name).stat().st_size
    named = {"relpath": name, "source_uri": uri, "item_id": item_id(uri), "kind": kind, "styles": (style,)}
    return named | {"source_bytes": size, "source_version": "1", "extra": None}


def _worker(bench: Bench, folder: Path, name: str, **sections: Any) -> Worker:
    config = StylizeConfig(input=str(folder), output=str(bench.scratch / name), **sections)
    worker = Worker(new_run_spec(config, str(folder)), len(os.sched_getaffinity(0)))
    worker.warm_up()
    return worker


@contextmanager
def _utilization(bench: Bench, figures: Figures, name: str) -> Iterator[None]:
    """Sample how busy the driver says the card is."""
    samples: list[float] = []
    stop = threading.Event()

    def sample() -> None:
        while not stop.wait(0.1):
            try:
                samples.append(float(torch.cuda.utilization()))
            except Exception:  # no NVML here
                return

    thread = threading.Thread(target=sample)
    if not bench.small:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        if not bench.small:
            thread.join()
        figures[f"{name}_utilization_percent"] = float(np.mean(samples)) if samples else -1.0


@check(limit_s=60)
def images(bench: Bench) -> Figures:
    """JPEGs of 256 px through a worker, and their coders alone."""
    folder, number = bench.scratch / "in", bench.pick(600, 4)
    folder.mkdir()
    one = picture(400, 400)
    for i in range(number):
        Image.fromarray(np.roll(one, 7 * i, 0)[:256, :256]).save(folder / f"{i:05}.jpg", quality=92)
    figures: Figures = {}
    checkpoint = "starry_night" if not bench.small else "anime_faces"
    model = {"device": str(bench.device), "batch_size": bench.pick(32, 2), "checkpoint": checkpoint}
    worker = _worker(bench, folder, "out", model=model)
    items = [_item(folder, f"{i:05}.jpg", "image", checkpoint) for i in range(number)]
    with _utilization(bench, figures, "worker"):
        started = time.perf_counter()
        result = worker(unit_of(items))
        elapsed_s = time.perf_counter() - started
    figures["worker_images_per_s"] = number / elapsed_s
    figures["worker_many_sizes_per_s"] = _many_sizes_per_s(bench, model, checkpoint)
    figures["stages_s"] = vars(result.timings)
    bench.expect("images that came through", result.statuses.get("ok", 0), at_least=number)
    figures["error"] = result.error
    from nst_ops.media.images import decode_image, encode_image

    paths = [folder / f"{i:05}.jpg" for i in range(min(number, 200))]
    started = time.perf_counter()
    decoded = [decode_image(path.read_bytes()).rgb_hwc for path in paths]
    figures["decode_per_s_one_thread"] = len(paths) / (time.perf_counter() - started)
    started = time.perf_counter()
    for rgb_hwc in decoded:
        encode_image(rgb_hwc, None, "JPEG", 95)
    figures["encode_per_s_one_thread"] = len(paths) / (time.perf_counter() - started)
    with ThreadPoolExecutor() as pool:
        started = time.perf_counter()
        list(pool.map(lambda path: decode_image(path.read_bytes()), paths))
        figures["decode_per_s_all_threads"] = len(paths) / (time.perf_counter() - started)
        started = time.perf_counter()
        list(pool.map(lambda rgb_hwc: encode_image(rgb_hwc, None, "JPEG", 95), decoded))
        figures["encode_per_s_all_threads"] = len(paths) / (time.perf_counter() - started)
    return figures


def _many_sizes_per_s(bench: Bench, model: dict[str, Any], checkpoint: str) -> float:
    """Return the rate of images whose size changes from one to the next, eight sizes in turn."""
    folder, number, one = bench.scratch / "many", bench.pick(600, 16), picture(400, 400)
    folder.mkdir()
    for i in range(number):
        Image.fromarray(one[: 232 + 8 * (i % 4), : 256 + 16 * (i % 8)]).save(folder / f"{i:05}.jpg", quality=92)
    worker = _worker(bench, folder, "out-many", model={**model, "batch_size": None})
    items = [_item(folder, f"{i:05}.jpg", "image", checkpoint) for i in range(number)]
    started = time.perf_counter()
    result = worker(unit_of(items))
    bench.expect("images of many sizes that came through", result.statuses.get("ok", 0), at_least=number)
    elapsed_s = time.perf_counter() - started
    return float(number / elapsed_s)


@check(limit_s=120)
def videos(bench: Bench) -> Figures:
    """1080p through a worker, without smoothing and with it, and decoder, encoder and smoother alone."""
    from nst_ops.media.video.container import Frame
    from nst_ops.media.video.reader import VideoReader
    from nst_ops.media.video.writer import VideoWriter

    folder = bench.scratch / "in"
    folder.mkdir()
    height, width = bench.pick((1080, 1920), (64, 96))
    num_frames, num_smoothed = bench.pick((250, 60), (8, 8))
    write_video(folder / "long.mp4", num_frames, height, width)
    write_video(folder / "short.mp4", num_smoothed, height, width)
    figures: Figures = {}
    checkpoint = "starry_night" if not bench.small else "anime_faces"
    model = {"device": str(bench.device), "batch_size": 4, "checkpoint": checkpoint}
    cases: dict[str, tuple[str, int, dict[str, Any]]] = {
        "none": ("long.mp4", num_frames, {"temporal": {"mode": "none"}}),
        "none_veryfast": ("long.mp4", num_frames, {"temporal": {"mode": "none"}, "video": {"preset": "veryfast"}}),
        "window": ("short.mp4", num_smoothed, {"temporal": {"mode": "window"}}),
        "window_dis": ("short.mp4", num_smoothed, {"temporal": {"mode": "window", "flow": "dis"}}),
    }
    for name, (file, count, sections) in cases.items():
        worker = _worker(bench, folder, f"out-{name}", model=model, **sections)
        with _utilization(bench, figures, name):
            started = time.perf_counter()
            result = worker(unit_of([_item(folder, file, "video", checkpoint)]))
            elapsed_s = time.perf_counter() - started
        figures[f"{name}_frames_per_s"] = count / elapsed_s
        figures[f"{name}_stages_s"] = vars(result.timings)
        figures[f"{name}_error"] = result.error
        bench.expect(f"{name}: videos that came through", result.statuses.get("ok", 0), at_least=1)
        del worker
        bench.free()
    with VideoReader(str(folder / "long.mp4")) as reader:
        started = time.perf_counter()
        frames = list(itertools.islice(reader.frames(), bench.pick(80, 8)))
        figures["decode_frames_per_s"] = len(frames) / (time.perf_counter() - started)
        for preset in ("medium", "veryfast"):
            config = VideoConfig.model_validate({"preset": preset})
            started = time.perf_counter()
            path = str(bench.scratch / f"{preset}.mp4")
            with VideoWriter(path, "mp4", reader.info, reader.output_size, None, config) as writer:
                for frame in frames:
                    writer.write(Frame(frame.pts, frame.duration, frame.rgb_hwc))
            figures[f"encode_{preset}_frames_per_s"] = len(frames) / (time.perf_counter() - started)
    for flow in bench.pick(("lucas_kanade", "dis"), ("dis",)):
        smoother = load_smoother(TemporalConfig(flow=flow), str(bench.device))
        started = time.perf_counter()
        for frame in frames[:24]:
            smoother.push(frame.rgb_hwc, frame.rgb_hwc)
        smoother.flush()
        figures[f"smooth_{flow}_frames_per_s"] = len(frames[:24]) / (time.perf_counter() - started)
    return figures


@check(limit_s=20)
def encoders(bench: Bench) -> Figures:
    """Which of the card's own coders open: NVENC and NVDEC."""
    figures: Figures = {}
    for name in ("h264_nvenc", "hevc_nvenc", "av1_nvenc"):
        try:
            codec: Any = av.CodecContext.create(name, "w")
            codec.width, codec.height, codec.pix_fmt = 640, 480, "yuv420p"
            codec.time_base, codec.framerate = Fraction(1, 25), Fraction(25)
            codec.open()
            figures[name] = "opens"
        except Exception as error:
            figures[name] = f"{type(error).__name__}: {error}"[:200]
    for kind in ("h264", "h265", "av1"):
        figures[f"auto_{kind}"] = nvenc_problem(VideoConfig.model_validate({"codec": kind})) or "nvenc"
    path = bench.scratch / "a.mp4"
    write_video(path, 60, *bench.pick((1080, 1920), (128, 192)))
    try:
        from av.codec.hwaccel import HWAccel

        started = time.perf_counter()
        with av.open(str(path), hwaccel=HWAccel("cuda", allow_software_fallback=False)) as container:
            number = sum(1 for _ in container.decode(video=0))
        figures["nvdec"] = f"{number / (time.perf_counter() - started):.0f} frames/s"
    except Exception as error:
        figures["nvdec"] = f"{type(error).__name__}: {error}"[:200]
    return figures


def training_step(
    bench: Bench, device: torch.device, side: int, batch: int, precision: str, width: int, depth: int, **loss: Any
) -> tuple[TrainJohnsonConfig, TrainingStep, Batches]:
    """Make a step of training on pictures in memory, with a VGG of random weights."""
    weights = bench.scratch / f"vgg19-{depth}.safetensors"
    style = bench.scratch / "style.png"
    if not weights.exists():
        write_vgg(bench.scratch, depth)
        Image.fromarray(picture(bench.pick(512, 128), bench.pick(640, 128), 9)).save(style)
    config = TrainJohnsonConfig.model_validate(
        {
            "data": {"content": "unused"},
            "style": str(style),
            "style_side": bench.pick(512, 64),
            "output": "unused",
            "network": {"width": width, "num_blocks": 5 if width == 32 else 1},
            "loss": {"weights": str(weights), **loss},
            "train": {
                "image_size": side,
                "batch_size": batch,
                "steps": 1000,
                "precision": precision,
                "save_every": 10**6,
            },
        }
    )
    number = max(batch, bench.pick(64, 4))
    images = ImageSet([pictures(number, config.resize, config.resize)], [(0, row) for row in range(number)])
    return config, read_setup(config).step(config, device), Batches(images, batch, side, 0)


@check(limit_s=60)
def training_precision(bench: Bench) -> Figures:
    """Ten steps on the CPU in fp32, and the same on the device in every precision; all terms of the loss together."""
    figures: Figures = {}
    taps = {"relu1_2": 1.0, "relu2_1": 1.0}
    loss = {"content": {"taps": {"relu2_1": 1.0}}, "gram": {"taps": taps, "weight": 4.0}}
    steps = bench.pick(10, 3)
    curves: dict[str, list[float]] = {}
    for name, device, kind in (
        ("cpu", torch.device("cpu"), "fp32"),
        *[(kind, bench.device, kind) for kind in bench.pick(("fp32", "bf16", "fp16"), ("bf16",))],
    ):
        _, step, batches = training_step(bench, device, 64, 4, kind, 16, 7, **loss)
        results = []
        for number in range(1, steps + 1):
            content = batches(number)[0].to(device)
            results.append(step(content.cut(), number))
        curves[name] = [result.total for result in results]
        figures[f"{name}_losses"] = curves[name]
        figures[f"{name}_skipped"] = sum(result.skipped for result in results)
        if name != "cpu":
            error = max(abs(a - b) / b for a, b in zip(curves[name], curves["cpu"], strict=True))
            figures[f"{name}_largest_relative_error"] = error
            bench.expect(
                f"{name}: loss against the CPU's", error, at_most={"fp32": 0.02, "bf16": 0.06, "fp16": 0.04}[name]
            )
        bench.expect(f"{name}: steps skipped", figures[f"{name}_skipped"], at_most=0)
    everything = loss | {
        "mean_std": {"weight": 1.0, "taps": taps},
        "noise": {"weight": 10.0},
        "motion": {"weight": 1.0},
        "cel": {"weight": 1.0},
    }
    for kind in bench.pick(("fp32", "bf16", "fp16"), ("bf16",)):
        _, step, batches = training_step(bench, bench.device, 64, 4, kind, 16, 7, **everything)
        results = []
        for number in range(1, steps + 1):
            content = batches(number)[0].to(bench.device)
            results.append(step(content.cut(), number, None, step.drawing(content)))
        figures[f"all_terms_{kind}"] = results[-1].flat()
        bench.expect(f"all terms in {kind}: steps skipped", sum(result.skipped for result in results), at_most=0)
    return figures


@check(limit_s=60)
def training_waits(bench: Bench) -> Figures:
    """No step of training waits for the device; one that is not finite changes nothing."""
    taps = {"relu1_2": 1.0, "relu2_1": 1.0}
    loss = {"content": {"taps": {"relu2_1": 1.0}}, "gram": {"taps": taps, "weight": 4.0}, "noise": {"weight": 10.0}}
    figures: Figures = {}
    for kind in bench.pick(("bf16", "fp16"), ("bf16",)):
        _, step, batches = training_step(bench, bench.device, 64, 4, kind, 16, 7, **loss)
        content = [batches(number)[0].to(bench.device).cut() for number in range(1, 5)]
        step(content[0], 1)
        before = [parameter.detach().clone() for parameter in step.network.parameters()]
        if not bench.small:
            torch.cuda.set_sync_debug_mode("error")  # an operation that waits raises
        try:
            skipped = step.start(content[1] * torch.nan, 2)
            same = torch.stack([(a == b).all() for a, b in zip(step.network.parameters(), before, strict=True)]).all()
            begun = [step.start(crops, number) for number, crops in enumerate(content[2:], 3)]
        finally:
            if not bench.small:
                torch.cuda.set_sync_debug_mode("default")
        bench.expect(f"{kind}: the step without a finite loss is skipped", float(skipped().skipped), at_least=1)
        bench.expect(f"{kind}: it changes no weight", float(same), at_least=1)
        settled = [each() for each in begun]
        bench.expect(f"{kind}: later steps that are skipped", sum(each.skipped for each in settled), at_most=0)
        figures[f"{kind}_losses"] = [each.total for each in settled]
    return figures


@check(limit_s=90)
def training_speed(bench: Bench) -> Figures:
    """Photographs a second in the training loop, with the full network and VGG19; what the device does in a step."""
    figures: Figures = {}
    side = bench.pick(256, 32)
    cases = bench.pick(
        [(2, "bf16"), (4, "bf16"), (32, "bf16"), (64, "bf16"), (32, "fp16"), (32, "fp32")], [(2, "bf16")]
    )
    width, depth = bench.pick(32, 4), bench.pick(17, 9)
    loss = {} if not bench.small else {"content": {"taps": {"relu2_1": 1.0}}, "gram": {"taps": {"relu1_2": 1.0}}}
    for batch, kind in cases:
        config, step, batches = training_step(bench, bench.device, side, batch, kind, width, depth, **loss)
        steps = bench.pick(12, 4)
        settings = config.train.model_copy(update={"steps": steps})
        bench.free()
        speed = train(step, batches, settings)
        figures[f"batch_{batch}_{kind}_images_per_s"] = speed.images_per_s
        figures[f"batch_{batch}_{kind}_data_wait_share"] = speed.data_wait_share
        if not bench.small:
            figures[f"batch_{batch}_{kind}_peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
        if batch in (2, 32) and kind == "bf16":
            content = batches(1)[0].to(bench.device)
            figures[f"batch_{batch}_kernels"] = profiled(bench, partial(step, content.cut(), steps + 1), 3)
        del step
        bench.free()
    return figures


@check(limit_s=90)
def compiled_1080p(bench: Bench) -> Figures:
    """The network compiled for two frames of 1080p; the first compilation is timed, too."""
    return _compiled(bench, 2, 1080, 1920)


@check(limit_s=90)
def compiled_small(bench: Bench) -> Figures:
    """The network compiled for 32 images of 256 px."""
    return _compiled(bench, 32, 256, 256)


def _compiled(bench: Bench, count: int, height: int, width: int) -> Figures:
    if bench.small:
        return {"note": "needs a GPU"}
    figures: Figures = {}
    net, x = prepared(bench, shipped("starry_night"), torch.float16, count, height, width)
    fast: Any = torch.compile(net, dynamic=False)
    with torch.inference_mode():
        started = time.perf_counter()
        out = fast(x)
        bench.synchronize()
        figures["first_call_s"] = time.perf_counter() - started
        figures["ms_per_frame"] = bench.on_device_ms(partial(fast, x), 6) / count
        figures["largest_difference"] = float((out - net(x)).abs().max())
        figures["graph_ms_per_frame"] = bench.on_device_ms(_graph(fast, x).replay, 6) / count
        figures["kernels"] = profiled(bench, partial(fast, x), 3)
    return figures
