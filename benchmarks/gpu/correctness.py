"""What must be right on a GPU: results as on a CPU, no overflow, large frames, short memory, a lost device."""

from __future__ import annotations

import contextlib
import copy
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import vgg  # type: ignore[import-untyped]

from benchmarks.gpu.bench import Bench, Figures, check, picture, pictures, psnr
from nst_ops.config.stylize import GatysConfig, TemporalConfig
from nst_ops.media.images import UInt8Array
from nst_ops.media.style_images import Style
from nst_ops.models import johnson
from nst_ops.models.checkpoint import load_checkpoint
from nst_ops.models.checkpoint_files import resolve_checkpoint
from nst_ops.models.johnson import JohnsonNet
from nst_ops.stylizers import memory
from nst_ops.stylizers.device import pad, to_network
from nst_ops.stylizers.johnson import JohnsonStylizer

_SHIPPED = ("starry_night", "anime_faces")
_T4_GIB = 14.6
"""Memory of a T4 that a program gets."""


def shipped(name: str) -> JohnsonNet:
    """Load a shipped network."""
    return load_checkpoint(resolve_checkpoint(name)).expect(JohnsonNet)


def folded(width: int = 32) -> JohnsonNet:
    """Make a network as it is loaded from pytorch/examples: on pixels up to 255, which its first weights hold."""
    torch.manual_seed(1)
    model: Any = JohnsonNet(width, head="linear")
    with torch.no_grad():
        model.encoder[0].conv.conv.weight.mul_(255)
        nn.init.normal_(model.decoder[-1].conv.weight, std=0.01)
        nn.init.constant_(model.decoder[-1].conv.bias, 0.5)
    network: JohnsonNet = model.eval()
    return network


def networks(bench: Bench) -> dict[str, JohnsonNet]:
    """Return the networks to compare by name."""
    names = bench.pick(_SHIPPED, ("anime_faces",))
    return {name: shipped(name) for name in names} | {"folded_255": folded(bench.pick(32, 8))}


def stylizer_of(bench: Bench, model: JohnsonNet, precision: str = "auto", **more: Any) -> JohnsonStylizer:
    """Make a stylizer of a copy of the network on the device."""
    return JohnsonStylizer(copy.deepcopy(model), str(bench.device), precision, **more)


def output_of(stylizer: JohnsonStylizer, frames_nhwc: UInt8Array) -> torch.Tensor:
    """Return what the network gives, (N, 3, H, W), before it is rounded to uint8, which hides what is no number."""
    with torch.inference_mode():
        x_bchw = pad(to_network(frames_nhwc, stylizer.device, stylizer.dtype), JohnsonNet.stride, 12)
        output: torch.Tensor = stylizer.model(x_bchw).float()
    return output


@check(limit_s=60)
def precision(bench: Bench) -> Figures:
    """Every shipped network in every precision against fp32 on the CPU, in tiles, in a batch, frozen."""
    figures: Figures = {}
    frames = pictures(3, *bench.pick((480, 852), (64, 96)))
    for name, model in networks(bench).items():
        expected = JohnsonStylizer(copy.deepcopy(model), "cpu", "fp32")(frames[:1])
        row = figures[name] = {}
        for kind in bench.pick(("fp32", "fp16", "bf16"), ("fp32", "bf16")):
            stylizer = stylizer_of(bench, model, kind)
            alone = stylizer(frames[:1])
            row[f"psnr_{kind}"] = psnr(alone, expected)
            row[f"largest_difference_{kind}"] = int(np.abs(alone.astype(int) - expected).max())
            batch = stylizer(frames)[:1].astype(int)
            row[f"batch_to_alone_{kind}"] = int(np.abs(batch - alone).max())
            tiled = stylizer_of(bench, model, kind, tile=bench.pick(256, 32))(frames[:1])
            difference = np.abs(tiled.astype(int) - alone)
            row[f"tiles_largest_{kind}"] = int(difference.max())
            row[f"tiles_over_1_share_{kind}"] = float((difference > 1).mean())
            frozen = stylizer.frozen(stylizer.measure(frames))(frames[:1])
            row[f"frozen_psnr_{kind}"] = psnr(frozen, alone)
        for kind, bound in (("fp32", 50), ("fp16", 50), ("bf16", 34)):
            if f"psnr_{kind}" in row:
                bench.expect(f"{name} {kind} PSNR in dB", row[f"psnr_{kind}"], at_least=bound)
        bench.expect(f"{name} fp32 tiles, largest difference", row["tiles_largest_fp32"], at_most=1)
    return figures


@check(limit_s=40)
def flat_frames(bench: Bench) -> Figures:
    """Frames without texture: nothing overflows, and what is nearly flat comes out as on the CPU."""
    figures: Figures = {}
    height, width = bench.pick((256, 320), (48, 64))
    rng = np.random.default_rng(0)
    flat = np.stack([np.full((height, width, 3), color, np.uint8) for color in (255, 0, 128)])
    flat[2] = (255, 0, 40)
    near = flat.copy()
    near[0] -= rng.integers(0, 2, near[0].shape, dtype=np.uint8)
    near[1] += rng.integers(0, 2, near[1].shape, dtype=np.uint8)
    near[2, height // 2, width // 2] = 255
    for name, model in networks(bench).items():
        row = figures[name] = {}
        for kind in bench.pick(("fp16", "bf16"), ("fp16", "bf16")):
            stylizer = stylizer_of(bench, model, kind)
            output = output_of(stylizer, np.concatenate([flat, near]))
            row[f"not_finite_share_{kind}"] = float(1 - output.isfinite().float().mean())
            bench.expect(f"{name} {kind}, share that is no number", row[f"not_finite_share_{kind}"], at_most=0)
            expected = JohnsonStylizer(copy.deepcopy(model), "cpu", "fp32")
            for what, frames in (("flat", flat), ("near_flat", near)):
                row[f"psnr_{what}_{kind}"] = [round(psnr(stylizer(f[None]), expected(f[None])), 1) for f in frames]
    return figures


@check(limit_s=60)
def other_stylizers(bench: Bench) -> Figures:
    """ViT-AdaIN and Gatys, on the device and on the CPU."""
    from nst_ops.models.vit_adain import ViTAdaIN
    from nst_ops.stylizers.gatys import GatysStylizer
    from nst_ops.stylizers.vit_adain import VitAdainStylizer

    figures: Figures = {}
    device = str(bench.device)
    frames = pictures(2, *bench.pick((240, 320), (48, 64)))
    styles = [Style(f"style {seed}", picture(bench.pick(256, 64), bench.pick(256, 64), seed)) for seed in (5, 6)]
    for decoder, stem in (("resize", 8), ("transposed", 0)):
        torch.manual_seed(0)
        arguments: dict[str, Any] = {"levels": [0, 1] if stem else [-1], "stem": stem, "decoder": decoder}
        arguments["widths"] = [64, 32, 16, 16] if stem else [64, 32, 16]
        model = ViTAdaIN("vit_tiny_patch16_224", {"depth": 2, "embed_dim": 96, "num_heads": 2}, **arguments)
        expected = VitAdainStylizer(copy.deepcopy(model), "cpu", "fp32")(frames, styles)
        for kind in bench.pick(("fp32", "fp16", "bf16"), ("fp32", "bf16")):
            stylizer = VitAdainStylizer(copy.deepcopy(model), device, kind)
            got = stylizer(frames, styles)
            figures[f"vit_adain_{decoder}_{kind}"] = psnr(got, expected)
            bench.expect(f"vit_adain {decoder} {kind} PSNR", figures[f"vit_adain_{decoder}_{kind}"], at_least=34)
            stylizer(np.full_like(frames, 255), styles)
    weights = write_vgg(bench.scratch, 10)
    taps = {"relu1_1": 1.0, "relu2_1": 1.0}
    for optimizer in ("adam", "lbfgs"):
        losses = {}
        for place, kind in (("cpu", "fp32"), (device, "fp32"), (device, "bf16")):
            terms = {"content": {"taps": {"relu2_1": 1.0}}, "gram": {"taps": taps}}
            settings = {"weights": str(weights), "optimizer": optimizer, "steps": bench.pick(10, 3)}
            optimizing = GatysStylizer(GatysConfig.model_validate(settings | terms), place, kind)
            optimizing(frames, styles)
            losses[place, kind] = [rows[-1]["total"] for rows in optimizing.last_losses]
        for kind in ("fp32", "bf16"):
            pairs = zip(losses[device, kind], losses["cpu", "fp32"], strict=True)
            error = max(abs(a - b) / b for a, b in pairs)
            figures[f"gatys_{optimizer}_{kind}_relative_error"] = error
            # L-BFGS multiplies what rounding begins: its losses in bf16 are a weak measure.
            bound = 0.05 if kind == "fp32" else 0.2 if optimizer == "adam" else 0.6
            bench.expect(f"gatys {optimizer} {kind}, loss against the CPU's", error, at_most=bound)
    return figures


def write_vgg(folder: Path, depth: int) -> Path:
    """Write a VGG19 of the first ``depth`` layers, of random weights that keep the variance."""
    torch.manual_seed(0)
    layers = vgg.make_layers(vgg.cfgs["E"])[:depth]
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
            nn.init.constant_(cast(torch.Tensor, layer.bias), 0)
    path = folder / f"vgg19-{depth}.safetensors"
    save_file({f"features.{key}": value for key, value in layers.state_dict().items()}, path)
    return path


@check(limit_s=60)
def flow(bench: Bench) -> Figures:
    """Optical flow on the device against the CPU, and its time."""
    from torchvision.models.optical_flow import raft_small  # type: ignore[import-untyped]

    from nst_ops.temporal.lucas_kanade import LucasKanadeFlow
    from nst_ops.temporal.raft import RaftFlow

    figures: Figures = {}
    height, width = bench.pick((270, 480), (128, 136))
    one = picture(height + 8, width + 8)
    a, b = one[4:-4, 4:-4], one[2:-6, 1:-7]
    torch.manual_seed(0)
    weights = bench.scratch / "raft.safetensors"
    save_file(raft_small(weights=None).state_dict(), weights)
    makers: dict[str, Callable[[str], Any]] = {
        "lucas_kanade": LucasKanadeFlow,
        "raft": lambda device: RaftFlow(str(weights), device),
    }
    for name, make in makers.items():
        here, there = make(str(bench.device)), make("cpu")
        got, expected = here(a, b), there(a, b)
        error = np.abs(got - expected)
        figures[f"{name}_median_px"] = float(np.median(error))
        figures[f"{name}_p99_px"] = float(np.quantile(error, 0.99))
        figures[f"{name}_ms"] = bench.milliseconds(partial(here, a, b))
        bench.expect(f"{name}, median difference in px", figures[f"{name}_median_px"], at_most=0.05)
        if name == "lucas_kanade":
            inside = got[20:-20, 20:-20].reshape(-1, 2)
            figures["lucas_kanade_finds"] = [round(float(v), 3) for v in np.median(inside, axis=0)]  # 3, 2
    return figures


@check(limit_s=60)
def smoothing(bench: Bench) -> Figures:
    """A smoothed clip, with flow on the device and on the CPU."""
    from nst_ops.temporal.smoothing import load_smoother

    figures: Figures = {}
    count, (height, width) = bench.pick(10, 5), bench.pick((360, 640), (64, 96))
    one = picture(height + 64, width + 64)
    source = [one[2 * i : 2 * i + height, 3 * i : 3 * i + width].copy() for i in range(count)]
    noise = np.random.default_rng(0).integers(-12, 13, (count, height, width, 3))
    stylized = [np.clip(255 - frame + noise[i], 0, 255).astype(np.uint8) for i, frame in enumerate(source)]
    for mode in ("window", "ema"):
        results = []
        for device in (str(bench.device), "cpu"):
            smoother = load_smoother(TemporalConfig(mode=mode, flow="lucas_kanade"), device)
            pairs = zip(source, stylized, strict=True)
            frames = [f for pair in pairs for f in smoother.push(*pair)] + smoother.flush()
            results.append(np.stack(frames).astype(int))
        difference = np.abs(results[0] - results[1])
        figures[f"{mode}_over_1_share"] = float((difference > 1).mean())
        figures[f"{mode}_largest"] = int(difference.max())
        bench.expect(f"{mode}, share of values more than a level apart", figures[f"{mode}_over_1_share"], at_most=0.01)
    return figures


@check(limit_s=60)
def frames_on_device(bench: Bench) -> Figures:
    """Frames that stay on the device while they are smoothed, against those of the host, in every mode."""
    from nst_ops.models.host_copies import host_copies
    from nst_ops.temporal.smoothing import MODES, load_smoother

    figures: Figures = {}
    count, (height, width) = bench.pick(10, 5), bench.pick((540, 960), (64, 96))
    one, copies = picture(height + 64, width + 64), host_copies(bench.device)
    source = [one[2 * i : 2 * i + height, 3 * i : 3 * i + width].copy() for i in range(count)]
    noise = np.random.default_rng(0).integers(-12, 13, (count, height, width, 3))
    stylized = [np.clip(255 - frame + noise[i], 0, 255).astype(np.uint8) for i, frame in enumerate(source)]
    for mode in MODES:
        config = TemporalConfig.model_validate({"mode": mode, "flow": "lucas_kanade"})
        host, device = load_smoother(config, "cpu"), load_smoother(config, str(bench.device))
        expected = [f for pair in zip(source, stylized, strict=True) for f in host.push(*pair)] + host.flush()
        begun: list[Any] = []
        started = time.perf_counter()
        for pair in zip(source, stylized, strict=True):
            begun += map(copies.down, device.push(*map(copies.up, pair)))
        begun += map(copies.down, device.flush())
        frames = np.stack([download.result() for download in begun]).astype(int)
        figures[f"{mode}_frames_per_s"] = count / (time.perf_counter() - started)
        share = float((np.abs(frames - np.stack(expected)) > 1).mean())
        bench.expect(f"{mode}, share of values more than a level from the host's", share, at_most=0.01)
    return figures


@check(limit_s=40)
def copies(bench: Bench) -> Figures:
    """Copies through pinned memory beside work of the device: what comes back is what went up, and how fast."""
    from nst_ops.models.host_copies import host_copies

    copying, side = host_copies(bench.device), bench.pick(4096, 64)
    busy = torch.randn(side, side, device=bench.device)
    frames = pictures(4, *bench.pick((1080, 1920), (64, 96)))
    downloads = []
    for number in range(24):
        array = frames + np.uint8(number)
        x = copying.up(array) + 1
        array.fill(0)  # it is the caller's again
        busy = (busy @ busy).clamp_(-1, 1)
        downloads.append(copying.down(x))
    wrong = sum(not np.array_equal(down.result(), frames + np.uint8(n + 1)) for n, down in enumerate(downloads))
    bench.expect("copies that changed on their way", wrong, at_most=0)
    x = copying.up(frames)
    up_ms = bench.milliseconds(partial(copying.up, frames))
    down_ms = bench.milliseconds(lambda: copying.down(x).result())
    return {"up_gb_per_s": frames.nbytes / up_ms / 1e6, "down_gb_per_s": frames.nbytes / down_ms / 1e6}


@check(limit_s=60)
def graphs(bench: Bench) -> Figures:
    """Shapes that come again are recorded, and replayed to the bit, while another thread takes and frees memory."""
    if bench.small:
        return {"note": "needs a GPU"}
    figures: Figures = {}
    model, stop = shipped("starry_night"), threading.Event()
    recording, eager = stylizer_of(bench, model), stylizer_of(bench, model)
    eager._graphs = None

    def disturb() -> None:
        with torch.cuda.stream(torch.cuda.Stream()):
            while not stop.wait(0.001):
                (torch.rand(1 << 22, device=bench.device) * 2).sum().item()

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        for count, side in ((1, 256), (32, 256), (4, 512)):
            batches = [pictures(count, side, side + seed)[:, :, :side] for seed in range(6)]
            differing = sum(not np.array_equal(recording(batch), eager(batch)) for batch in batches)
            bench.expect(f"{count} of {side} px: batches that differ from eager ones", differing, at_most=0)
    finally:
        stop.set()
        thread.join()
    assert recording._graphs is not None
    bench.expect("shapes that were recorded", len(recording._graphs._replays), at_least=3)
    for count in (1, 4, 32):
        batch = pictures(count, 256, 256)
        for name, stylizer in (("graph", recording), ("eager", eager)):
            figures[f"256px_x{count}_{name}_ms"] = bench.milliseconds(partial(stylizer, batch))
    return figures


@check(limit_s=40)
def fused_norm(bench: Bench) -> Figures:
    """Batch normalization of each image in place of mean and variance: whether the trial takes it, error and time."""
    figures: Figures = {}
    for dtype in (torch.float16, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        bench.expect(f"{name}: the trial takes it", float(johnson.fused_norm_agrees(bench.device, dtype)), at_least=1)
        x = torch.randn(1, 32, *bench.pick((1104, 1944), (64, 96)), device=bench.device).to(dtype)
        x = x.mul_(8).add_(3).contiguous(memory_format=torch.channels_last)
        norm = johnson.InstanceNorm(32).to(bench.device)
        with torch.inference_mode():
            mean, var = norm.moments(x)
            exact = (x.float() - mean) * torch.rsqrt(var + norm.eps)
            figures[f"{name}_largest_error"] = float((norm(x) - exact).abs().max())
            figures[f"{name}_fused_ms"] = bench.on_device_ms(partial(norm, x))
            figures[f"{name}_mean_and_variance_ms"] = bench.on_device_ms(partial(norm.moments, x))
        bench.expect(f"{name}: error in deviations", figures[f"{name}_largest_error"], at_most=0.05)
    return figures


@check(limit_s=90)
def sizes(bench: Bench) -> Figures:
    """Large frames and batches: they come out, as in tiles, and what they take is what is planned for."""
    figures: Figures = {}
    model = shipped("starry_night") if not bench.small else folded(4)
    cases = bench.pick(
        {"1080p x 8": (8, 1080, 1920), "4K x 4": (4, 2160, 3840), "12 MP x 3": (3, 3024, 4032), "8K": (1, 4320, 7680)},
        {"small x 3": (3, 64, 96)},
    )
    cases |= bench.pick({"50 MP": (1, 6120, 8160)}, {})
    for name, (count, height, width) in cases.items():
        with _noted(bench, figures, name):
            stylizer = stylizer_of(bench, model)
            frames = _large(count, height, width)
            peak = _peak_bytes(bench, partial(stylizer, frames))
            got = stylizer(frames)
            unit = stylizer._bytes_per_map(height, width)
            figures[f"{name}: peak in maps"] = peak / unit / count
            figures[f"{name}: planned maps"] = stylizer._bytes(height, width) / unit
            tiled = stylizer_of(bench, model, tile=bench.pick(1024, 32))(frames[-1:])
            difference = np.abs(tiled.astype(np.int16) - got[-1:])
            figures[f"{name}: tiles over 1 share"] = float((difference > 1).mean())
            bench.expect(
                f"{name}, share more than a level from tiles", figures[f"{name}: tiles over 1 share"], at_most=0.01
            )
            bench.expect(f"{name}, takes no more maps than planned", figures[f"{name}: peak in maps"], at_most=9.0)
    with _noted(bench, figures, "peak with skips"):
        stylizer = stylizer_of(bench, shipped("anime_faces"))
        height, width = bench.pick((1080, 1920), (64, 96))
        peak = _peak_bytes(bench, lambda: stylizer(_large(1, height, width)))
        figures["skips: peak in maps"] = peak / stylizer._bytes_per_map(height, width)
    return figures


@check(limit_s=60)
def little_memory(bench: Bench) -> Figures:
    """A card as small as a T4, and smaller: large frames in tiles, large batches in parts."""
    figures: Figures = {}
    if bench.small:
        return {"note": "needs a GPU"}
    model = shipped("starry_night")
    total = torch.cuda.get_device_properties(0).total_memory
    cases = {
        "T4: 4K x 4": (_T4_GIB, 4, 2160, 3840),
        "T4: 8K": (_T4_GIB, 1, 4320, 7680),
        "3 GiB: 1080p x 8": (3.0, 8, 1080, 1920),
        "3 GiB: 4K": (3.0, 1, 2160, 3840),
        "1 GiB: 1080p x 2": (1.0, 2, 1080, 1920),
    }
    for name, (gib, count, height, width) in cases.items():
        bench.free()
        stylizer, frames = stylizer_of(bench, model), _large(count, height, width)
        with _noted(bench, figures, name):
            torch.cuda.set_per_process_memory_fraction(gib * 2**30 / total)
            try:
                peak = _peak_bytes(bench, partial(stylizer, frames))
                figures[f"{name}: peak in GiB"] = peak / 2**30
            finally:
                torch.cuda.set_per_process_memory_fraction(1.0)
                getattr(memory, "_usable", {}).clear()
    return figures


@check(limit_s=30)
def out_of_memory(bench: Bench) -> Figures:
    """A network that runs out of memory with more than two frames, or with one that is not in tiles."""
    figures: Figures = {}
    model = folded(8)
    cases = {"at most 2 frames": (5, 280, 300, 2, 10**9), "never whole": (2, 1000, 1200, 1, 600 * 600)}
    for name, (count, height, width, most_frames, most_pixels) in cases.items():
        frames = pictures(count, height, width)
        expected = stylizer_of(bench, model)(frames)
        stylizer = stylizer_of(bench, model)
        seen: list[tuple[int, ...]] = []
        stylizer.model.decoder[-1].register_forward_pre_hook(partial(_short_of_memory, seen, most_frames, most_pixels))
        with _noted(bench, figures, name):
            figures[f"{name}: largest difference"] = int(np.abs(stylizer(frames).astype(int) - expected).max())
            figures[f"{name}: calls"] = str(seen)[:200]
        getattr(memory, "_usable", {}).clear()  # what was learned here is not so
    return figures


def _short_of_memory(
    seen: list[tuple[int, ...]], most_frames: int, most_pixels: int, _: object, args: tuple[torch.Tensor]
) -> None:
    count, _, height, width = args[0].shape
    seen.append((count, height, width))
    if count > most_frames or height * width > most_pixels:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB (injected)")


_LOST = """
import sys
import numpy as np, torch
from nst_ops.config import StylizeConfig
from nst_ops.stylizers.registry import ModelKind, register
from nst_ops.pipeline.run_spec import new_run_spec
from nst_ops.pipeline.worker import Worker
from nst_ops.collection.units import unit_of, item_id

def broken(frames_nhwc, styles=()):
    table = torch.zeros(4, device="cuda")
    table[torch.tensor([7], device="cuda")].cpu()
    return frames_nhwc

register(ModelKind("broken", lambda model, alpha: broken, uses_device=False, smooths=False, warms_up=False))
root, kind = sys.argv[1:] if len(sys.argv) > 2 else (ROOT, KIND)
config = StylizeConfig(input=root, output=root + "-out", model={"kind": "broken"})
worker = Worker(new_run_spec(config, root))
name = {"image": "a.png", "video": "a.mp4"}[kind]
uri = root + "/" + name
item = {"relpath": name, "source_uri": uri, "source_bytes": 1, "source_version": "1", "kind": kind, "extra": None,
        "item_id": item_id(uri), "styles": ("broken",)}
result = worker(unit_of([item]))
print("LOST" if result.device_is_lost and not result.statuses else "MISSED", result.statuses, result.error[:200])
"""


@check(limit_s=120)
def lost_device(bench: Bench) -> Figures:
    """An error that leaves the device unusable is known as such, with an image and with a video, and fails no item."""
    from PIL import Image

    from benchmarks.gpu.timings import write_video

    figures: Figures = {}
    if bench.small:
        return {"note": "needs a GPU"}
    for kind in ("image", "video"):
        folder = bench.scratch / kind
        folder.mkdir()
        Image.fromarray(picture(64, 96)).save(folder / "a.png")
        write_video(folder / "a.mp4", 6, 96, 128)
        code = _LOST.replace("(ROOT, KIND)", repr((str(folder), kind)))
        process = bench.run_python(code)
        known = "LOST" in process.stdout
        figures[kind] = process.stdout.strip()[-300:] or process.stderr.strip()[-300:]
        figures[f"{kind}_exit_code"] = process.returncode
        bench.expect(f"{kind}: the loss of the device is known", float(known), at_least=1)
    return figures


_GRANTED = """
from nst_ops.models.device import find_device
try:
    print("FOUND", find_device(NAME))
except Exception as error:
    print(type(error).__name__, error)
"""


@check(limit_s=60)
def no_usable_gpu(bench: Bench) -> Figures:
    """A GPU that is asked for and not to be had: what is said."""
    figures: Figures = {}
    for case, name, visible in (("hidden", "cuda", ""), ("granted", "auto", "99")):
        found = bench.run_python(_GRANTED.replace("NAME", repr(name)), CUDA_VISIBLE_DEVICES=visible).stdout.strip()
        figures[case] = found
        bench.expect(f"a device is found where a GPU is {case} that cannot be used", float("FOUND" in found), at_most=0)
    return figures


def _large(count: int, height: int, width: int) -> UInt8Array:
    """Return frames of any size in little time: one picture, repeated."""
    tile = picture(min(height, 1080), min(width, 1920))
    rows, columns = -(-height // tile.shape[0]), -(-width // tile.shape[1])
    one = np.tile(tile, (rows, columns, 1))[:height, :width]
    return np.stack([np.roll(one, 7 * i, 0) for i in range(count)])


def _peak_bytes(bench: Bench, call: Callable[[], object]) -> int:
    """Return the memory that a call takes beyond what is taken before it."""
    if bench.small:
        call()
        return 0
    bench.free()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


@contextlib.contextmanager
def _noted(bench: Bench, figures: Figures, name: str) -> Iterator[None]:
    """Note an error as a goal that was missed, and go on."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (RuntimeError, MemoryError) as error:
        figures[f"{name}: error"] = f"{type(error).__name__}: {str(error).splitlines()[0][:300]}"
        bench.expect(f"{name} comes through", 0, at_least=1)
        bench.free()
    else:
        bench.expect(f"{name} comes through", 1, at_least=1)
