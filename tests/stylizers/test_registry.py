"""The table of model kinds: what a run asks about one, and how a script adds its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from nst_ops.config import ConfigError, ModelConfig, StylizeConfig
from nst_ops.config.stylize import GatysConfig
from nst_ops.media.images import UInt8Array
from nst_ops.models.checkpoint_files import PRETRAINED
from nst_ops.pipeline.run_spec import new_run_spec
from nst_ops.stylizers import KINDS, ModelKind, Style, Stylizer, load_stylizer, model_kind, register

BUILT_IN = ("anime", "gatys", "identity", "johnson", "vit_adain")


@pytest.fixture
def posterize() -> Iterator[ModelKind]:
    def load(model: ModelConfig, alpha: float) -> Stylizer:
        def stylize(frames_nhwc: UInt8Array, styles: Sequence[Style] = ()) -> UInt8Array:
            return frames_nhwc // 64 * 64

        return stylize

    yield register(ModelKind("posterize", load, uses_device=False))
    del KINDS["posterize"]


def test_naming_kinds_imports_no_torch() -> None:
    """Identity runs, dry runs and the report ask for a kind and should start at once."""
    asks = (
        "import sys; from nst_ops.config import ModelConfig; from nst_ops.stylizers import *;"
        "load_stylizer(ModelConfig(kind='identity')); model_kind('johnson').weights_file(ModelConfig());"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", asks]).returncode == 0


def test_a_network_of_one_style_imports_no_timm() -> None:
    """It takes as long to import as torch, in every worker."""
    asks = (
        "import sys; from nst_ops.config import ModelConfig; from nst_ops.stylizers import load_stylizer;"
        "load_stylizer(ModelConfig(device='cpu')); sys.exit('timm' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", asks]).returncode == 0


def test_a_kind_of_a_script_is_loaded_by_its_name(posterize: ModelKind) -> None:
    frames = np.full((1, 4, 4, 3), 100, np.uint8)
    stylized = load_stylizer(ModelConfig(kind="posterize"))(frames)
    assert (stylized == 64).all()
    assert model_kind("posterize") is posterize


def test_an_unknown_kind_is_refused_with_the_one_meant(tmp_path: Path, posterize: ModelKind) -> None:
    known = f"known kinds: {', '.join(sorted(KINDS))}"
    assert {"gatys", "identity", "johnson", "posterize", "vit_adain"} <= KINDS.keys()
    with pytest.raises(ValueError, match=f"no model of kind 'jonson', did you mean 'johnson'[?] {known}"):
        model_kind("jonson")
    config = StylizeConfig(input=str(tmp_path), output=str(tmp_path / "out"), model={"kind": "vgg"})
    with pytest.raises(ConfigError, match="no model of kind 'vgg'"):  # exit code 2
        new_run_spec(config, config.input)


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_kind_travels_to_workers(name: str) -> None:
    pickler = pytest.importorskip("ray.cloudpickle")
    assert pickler.loads(pickler.dumps(model_kind(name))) == model_kind(name)


def test_a_kind_of_a_script_travels_to_workers(posterize: ModelKind) -> None:
    pickler = pytest.importorskip("ray.cloudpickle")
    copy = pickler.loads(pickler.dumps(posterize))
    assert copy.load(ModelConfig(), 1.0)(np.full((1, 1, 1, 3), 70, np.uint8)).max() == 64


def test_weights_are_found_and_set_where_each_kind_has_them(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.touch()
    model = ModelConfig(gatys=GatysConfig(weights="vgg.pth"))
    files = {name: model_kind(name).weights_file(model) for name in BUILT_IN}
    shipped = PRETRAINED / "styles.safetensors"
    assert files == {
        "johnson": shipped,
        "vit_adain": shipped,
        "gatys": Path("vgg.pth"),
        "identity": None,
        "anime": None,
    }
    for name in BUILT_IN:
        kind = model_kind(name)
        there = kind.with_weights_file(model, path)
        assert kind.weights_file(there) == (None if name in ("anime", "identity") else path)
        assert there.model_copy(update={"checkpoint": "", "gatys": None}) == model.model_copy(
            update={"checkpoint": "", "gatys": None}
        )
    assert model_kind("gatys").weights_file(ModelConfig()) is None  # torchvision's, downloaded
