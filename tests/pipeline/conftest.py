"""Style images, and tiny networks with random weights: one of its own style, one that takes any style."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

STYLES = {"amber": (240, 170, 30), "moss": (60, 120, 40), "navy": (20, 30, 110)}


@pytest.fixture(scope="session")
def styles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three style images, each of one color with some grain."""
    folder = tmp_path_factory.mktemp("styles")
    rng = np.random.default_rng(0)
    for name, color in STYLES.items():
        grain = rng.integers(-15, 16, (48, 40, 3))
        Image.fromarray((grain + color).astype(np.uint8)).save(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a Johnson network: what it stylizes flickers enough to be smoothed."""
    import torch  # seconds, which tests without a network need not wait for

    from nst_ops.models.checkpoint import save_checkpoint
    from nst_ops.models.johnson import JohnsonNet

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("network") / "random.safetensors"
    save_checkpoint(path, JohnsonNet(width=4, num_blocks=1), {})
    return path


@pytest.fixture(scope="session")
def named_styles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a network of four styles and the identity, with random rows."""
    import torch

    from nst_ops.models.checkpoint import save_checkpoint
    from nst_ops.models.conditional import ConditionalNet

    torch.manual_seed(0)
    names = ["waves", "stars", "identity", "moss", "amber"]
    network = ConditionalNet(names, width=8, num_blocks=1, encoder=(4, 8), decoder=(4, 4))
    with torch.no_grad():
        network.rows.add_(0.5 * torch.randn_like(network.rows))
    path = tmp_path_factory.mktemp("named_styles") / "styles.safetensors"
    save_checkpoint(path, network, {})
    return path


@pytest.fixture(scope="session")
def vit_adain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a ViT-AdaIN network."""
    import torch

    from nst_ops.models.checkpoint import save_checkpoint
    from nst_ops.models.vit_adain import ViTAdaIN

    torch.manual_seed(0)
    tiny = {"depth": 1, "embed_dim": 32, "num_heads": 2}
    network = ViTAdaIN("vit_tiny_patch16_224", tiny, image_size=32, widths=(8, 8, 8, 8))
    path = tmp_path_factory.mktemp("vit_adain") / "tiny.safetensors"
    save_checkpoint(path, network, {})
    return path
