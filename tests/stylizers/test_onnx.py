"""The kind ``onnx``: networks in every form, those that are refused, and runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from media_factory import moving_frames

from nst_ops.config import ModelConfig
from nst_ops.media.errors import NetworkError
from nst_ops.models.weights import CheckpointError
from nst_ops.stylizers import Stylizer, load_stylizer
from nst_ops.stylizers.device import to_frames, to_network
from nst_ops.stylizers.onnx import spans

pytest.importorskip("onnxruntime")
from onnx_factory import TYPES, Graph, expected, image_input, painting, write_network

FRAMES = np.stack(moving_frames(2, 97, 70))


def load(path: Path, tile: int | None = None, **keys: Any) -> Stylizer:
    model = ModelConfig.model_validate(
        {"kind": "onnx", "checkpoint": str(path), "device": "cpu", "tile": tile, "onnx": keys}
    )
    return load_stylizer(model)


def difference(a: np.ndarray, b: np.ndarray) -> int:
    return int(np.abs(a.astype(int) - b).max())


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("channels", ["rgb", "bgr"])
@pytest.mark.parametrize("input_range", ["unit", "symmetric", "byte", "imagenet"])
@pytest.mark.parametrize("output_range", ["unit", "symmetric", "byte"])
def test_every_form_gives_the_same_picture(
    tmp_path: Path, layout: str, channels: str, input_range: str, output_range: str
) -> None:
    form = dict(layout=layout, channels=channels, input_range=input_range, output_range=output_range)
    stylized = load(write_network(tmp_path / "net.onnx", **form), **form)(FRAMES)
    assert stylized.dtype == np.uint8
    assert difference(stylized, expected(FRAMES)) <= 1


@pytest.mark.parametrize(("kind", "values"), [("float16", "unit"), ("uint8", "byte")])
def test_types_other_than_float_are_taken(tmp_path: Path, kind: str, values: str) -> None:
    path = write_network(tmp_path / "net.onnx", input_range=values, output_range=values, kind=kind)
    given, found = load(path, input_range=values, output_range=values), load(path)
    assert difference(given(FRAMES), expected(FRAMES)) <= 1
    assert difference(found(FRAMES), expected(FRAMES)) <= 30


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (96, 64), (201, 131)])
def test_sides_that_are_no_multiples_are_padded_and_cut(tmp_path: Path, size: tuple[int, int]) -> None:
    path = write_network(tmp_path / "net.onnx", stride=16)
    frames = FRAMES[:, np.arange(size[0]) % 70][:, :, np.arange(size[1]) % 97]
    stylized = load(path, input_range="unit", output_range="unit", stride=16)(frames)
    assert stylized.shape == frames.shape
    assert difference(stylized, expected(frames)) <= 1


@pytest.mark.parametrize("sides", [(64, 64), (48, 128), (64, "width")])
def test_a_network_of_fixed_size_sees_overlapping_tiles(tmp_path: Path, sides: tuple[Any, Any]) -> None:
    path = write_network(tmp_path / "net.onnx", sides=sides)
    stylized = load(path, input_range="unit", output_range="unit", stride=1)(FRAMES)
    assert difference(stylized, expected(FRAMES)) <= 1


def test_a_tile_limits_what_the_network_sees_at_once(tmp_path: Path) -> None:
    path = write_network(tmp_path / "net.onnx", stride=4)
    frames = np.stack(moving_frames(1, 700, 300))
    stylizer = load(path, tile=256, input_range="unit", output_range="unit", stride=4)
    assert stylizer._tile_sides(300, 700) == (256, 256)
    assert difference(stylizer(frames), expected(frames)) <= 1


@pytest.mark.parametrize(("side", "tile"), [(64, 64), (65, 64), (1000, 64), (1000, 256), (97, 3)])
def test_weights_of_tiles_sum_to_one_at_every_pixel(side: int, tile: int) -> None:
    total = np.zeros(side)
    for start, weights in spans(side, tile):
        total[start : start + tile] += weights
    np.testing.assert_allclose(total, 1, atol=1e-6)


def test_a_shipped_network_in_onnx_paints_as_torch_does(tmp_path: Path) -> None:
    path = write_network(tmp_path / "net.onnx", "nhwc", "byte", "symmetric", style="starry_night")
    frames = np.stack(moving_frames(1, 192, 128))
    stylized = load(path, input_range="byte", output_range="symmetric", stride=4)(frames)
    with torch.inference_mode():
        by_torch = to_frames(painting("starry_night")(to_network(frames, torch.device("cpu"), torch.float32)))
    assert difference(stylized, by_torch) <= 1


def test_threads_do_not_change_the_picture(tmp_path: Path) -> None:
    stylizer = load(write_network(tmp_path / "net.onnx", style="great_wave"), input_range="unit", output_range="unit")
    before = torch.get_num_threads()
    try:
        pictures = []
        for count in (1, 2):
            torch.set_num_threads(count)
            pictures.append(stylizer(FRAMES[:1, :64, :96]))
    finally:
        torch.set_num_threads(before)
    assert difference(*pictures) <= 1


def test_output_may_have_another_layout_than_input(tmp_path: Path) -> None:
    graph = Graph()
    path = graph.save(
        tmp_path / "net.onnx",
        [image_input(shape=(1, "height", "width", 3))],
        graph.colors(graph.node("Transpose", "image", perm=[0, 3, 1, 2])),
    )
    assert difference(load(path, input_range="unit", output_range="unit")(FRAMES), expected(FRAMES)) <= 1


def test_values_that_are_no_numbers_fail_the_frame(tmp_path: Path) -> None:
    graph = Graph()
    logarithm = graph.node("Log", graph.affine("image", 1, -0.01))  # of black
    path = graph.save(tmp_path / "net.onnx", [image_input()], logarithm)
    stylizer = load(path, input_range="unit", output_range="unit")
    with pytest.raises(NetworkError, match="no numbers: export it for float"):
        stylizer(np.zeros_like(FRAMES))


def plain(path: Path, *inputs: Any, **form: Any) -> Path:
    """A network that adds up its inputs."""
    graph = Graph()
    x = "image"
    for other in inputs[1:]:
        x = graph.node("Add", x, other.name)
    return graph.save(path, list(inputs), graph.node("Relu", x), **form)


def two_images(path: Path) -> None:
    plain(path, image_input(), image_input("style"))


def style_weights(path: Path) -> None:
    plain(path, image_input(), image_input("style_weights", (1,)))


def batch_of_eight(path: Path) -> None:
    plain(path, image_input(shape=(8, 3, "height", "width")))


def three_axes(path: Path) -> None:
    plain(path, image_input(shape=("height", "width", 3)))


def gray(path: Path) -> None:
    plain(path, image_input(shape=(1, 1, 64, 64)))


def axes_unsaid(path: Path) -> None:
    plain(path, image_input(shape=("n", "c", "height", "width")))


def whole_numbers(path: Path) -> None:
    graph = Graph()
    graph.save(path, [image_input(kind="int64")], graph.node("Cast", "image", to=TYPES["float"]))


def custom_operator(path: Path) -> None:
    graph = Graph()
    graph.save(path, [image_input()], graph.node("Blur", "image", domain="my.company"))


def not_an_image(path: Path) -> None:
    graph = Graph()
    graph.save(path, [image_input()], graph.node("ReduceMean", "image", axes=[2, 3], keepdims=0))


def external(path: Path) -> None:
    import onnx

    model = onnx.load(str(write_network(path)))
    onnx.save(model, str(path), save_as_external_data=True, location="weights.bin", size_threshold=0)


def larger(path: Path) -> None:
    graph = Graph()
    scales = graph.weight(np.float32([1, 1, 4, 4]))
    graph.save(path, [image_input()], graph.node("Resize", "image", "", scales, mode="nearest"))


def overflowing(path: Path) -> None:
    graph = Graph()
    graph.save(path, [image_input()], graph.node("Log", graph.affine("image", -1, -1)))


def cut_off(path: Path) -> None:
    write_network(path)
    path.write_bytes(path.read_bytes()[:-100])


def text(path: Path) -> None:
    path.write_text("weights: https://example.org/net.onnx\n")


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (two_images, "takes 'style' beside the image: .*any_style"),
        (style_weights, "takes 'style_weights' beside the image: .*model.kind multi_style"),
        (batch_of_eight, "takes 8 images at once: export it"),
        (three_axes, "takes 3 axes: export it for four"),
        (gray, "takes images of shape .1, 1, 64, 64.: .*3 channels"),
        (axes_unsaid, "which axis has the channels: give --model.onnx.layout"),
        (whole_numbers, "takes a tensor.int64.: export it for float"),
        (custom_operator, "the custom operator my.company.Blur, .*: export"),
        (not_an_image, "no color image: take one"),
        (external, "its weights lie in another file: save it as one"),
        (larger, "makes 1024x512 pixels of 256x128: .*no stylizer"),
        (overflowing, "makes values that are no numbers: export"),
        (cut_off, "damaged, or no ONNX file"),
        (text, "damaged, or no ONNX file"),
        (empty, "damaged, or no ONNX file"),
    ],
)
def test_what_does_not_run_is_refused_with_a_remedy(tmp_path: Path, write: Any, words: str) -> None:
    path = tmp_path / "net.onnx"
    write(path)
    with pytest.raises(CheckpointError, match=rf"net\.onnx: .*{words}") as refusal:
        load(path)
    assert "\n" not in str(refusal.value)


def test_a_layout_that_the_file_does_not_say_may_be_given(tmp_path: Path) -> None:
    axes_unsaid(tmp_path / "net.onnx")
    stylized = load(tmp_path / "net.onnx", layout="nchw", input_range="unit", output_range="unit")(FRAMES)
    np.testing.assert_array_equal(stylized, FRAMES)


def test_a_layout_that_the_file_contradicts_is_refused(tmp_path: Path) -> None:
    path = write_network(tmp_path / "net.onnx", "nhwc")
    with pytest.raises(CheckpointError, match=r"which is nhwc: leave model\.onnx\.layout out, or give nhwc"):
        load(path, layout="nchw", input_range="unit", output_range="unit")


def test_ranges_of_a_network_that_makes_negatives_are_found(tmp_path: Path) -> None:
    graph = Graph()
    ends = graph.weight(np.float32(0)), graph.weight(np.float32(1))
    negative = graph.node("Clip", graph.affine("image", -1, 1), *ends)
    stylizer = load(graph.save(tmp_path / "net.onnx", [image_input()], negative))
    assert (stylizer.settled.input_range, stylizer.settled.output_range) == ("unit", "unit")
    assert difference(stylizer(FRAMES), 255 - FRAMES) <= 1


def test_a_file_that_ends_in_onnx_needs_no_kind(tmp_path: Path) -> None:
    path = write_network(tmp_path / "net.onnx")
    model = ModelConfig.model_validate(
        {"checkpoint": str(path), "onnx": {"input_range": "unit", "output_range": "unit", "stride": 1}}
    )
    assert difference(load_stylizer(model)(FRAMES), expected(FRAMES)) <= 1


def test_a_precision_is_refused(tmp_path: Path) -> None:
    path = write_network(tmp_path / "net.onnx")
    with pytest.raises(ValueError, match=r"model\.precision bf16: .* leave it out"):
        load_stylizer(ModelConfig(kind="onnx", checkpoint=str(path), precision="bf16"))


@pytest.mark.parametrize(
    ("input_range", "output_range"),
    [("unit", "unit"), ("unit", "byte"), ("symmetric", "unit"), ("byte", "unit"), ("imagenet", "byte")],
)
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_layout_ranges_and_stride_are_found(tmp_path: Path, layout: str, input_range: str, output_range: str) -> None:
    path = write_network(tmp_path / "net.onnx", layout, input_range, output_range, stride=8)
    stylizer = load(path)
    assert (stylizer.settled.layout, stylizer.settled.stride) == (layout, 8)
    assert difference(stylizer(FRAMES), expected(FRAMES)) <= 30


_FORMS = [("unit", "byte"), ("symmetric", "symmetric"), ("byte", "unit"), ("byte", "byte"), ("imagenet", "symmetric")]


@pytest.mark.parametrize(
    ("style", "form"),
    [
        ("great_wave", ("byte", "symmetric")),
        *(
            pytest.param(style, form, marks=pytest.mark.slow)
            for style in ("kandinsky", "mondrian", "starry_night", "the_scream", "water_lilies", "grande_jatte")
            for form in _FORMS
        ),
    ],
)
def test_ranges_of_real_networks_are_found(tmp_path: Path, style: str, form: tuple[str, str]) -> None:
    input_range, output_range = form
    path = write_network(tmp_path / "net.onnx", input_range=input_range, output_range=output_range, style=style)
    found, given = load(path), load(path, input_range=input_range, output_range=output_range)
    assert (found.settled.output_range, found.settled.stride) == (output_range, 4)
    # Each image is normalized, so of several ranges of the input nearly the same picture is made.
    assert np.abs(found(FRAMES[:1]).astype(int) - given(FRAMES[:1])).mean() < 8


@pytest.mark.parametrize(
    ("package", "words"),
    [("onnx", "net.onnx: reading ONNX needs a package"), ("onnxruntime", "model.kind onnx needs onnxruntime")],
)
def test_without_the_extra_one_line_says_what_installs_it(tmp_path: Path, package: str, words: str) -> None:
    path = write_network(tmp_path / "net.onnx")
    program = f"""
import sys
sys.modules[{package!r}] = None
from nst_ops.config import ModelConfig
from nst_ops.stylizers import load_stylizer
try:
    load_stylizer(ModelConfig(kind="onnx", checkpoint={str(path)!r}, device="cpu"))
except ValueError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    (line,) = done.stdout.splitlines()
    assert words in line
    assert line.endswith("pip install 'nst-ops[onnx]'")


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited as Linux does")
def test_a_frame_beyond_memory_is_refused_and_others_go_on(tmp_path: Path) -> None:
    path = write_network(tmp_path / "net.onnx", style="great_wave")
    program = f"""
import resource
import numpy as np, psutil, torch
from nst_ops.config import ModelConfig
from nst_ops.stylizers import load_stylizer
torch.set_num_threads(1)
keys = {{"input_range": "unit", "output_range": "unit", "stride": 4}}
stylizer = load_stylizer(ModelConfig(kind="onnx", checkpoint={str(path)!r}, device="cpu", onnx=keys))
small, large = (np.zeros((1, side, side, 3), np.uint8) for side in (64, 1200))
stylizer(small)
most = psutil.Process().memory_info().vms + 2**28
resource.setrlimit(resource.RLIMIT_AS, (most, most))
try:
    stylizer(large)
except MemoryError as error:
    print(error)
print(stylizer(small).shape)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    refused, small = done.stdout.splitlines()
    assert refused.startswith("1200x1200 pixels need about")
    assert small == "(1, 64, 64, 3)"
