"""Weights for the networks of the tests."""

from pathlib import Path

import pytest
from vgg_factory import write_vgg19


@pytest.fixture(scope="session")
def vgg_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_vgg19(tmp_path_factory.mktemp("weights") / "vgg19_to_relu2_2.safetensors")
