"""The benchmark of stylized training sets, on two photographs and a network of random weights."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from job_runner import ROOT
from media_factory import natural_image
from torchvision.models import get_model
from vgg_factory import write_vgg19


@pytest.mark.slow
def test_figures_of_every_setting_are_written(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for name in ("chelsea", "coffee"):
        natural_image(name, 120, 90).save(tmp_path / "photos" / f"{name}.png")
    torch.manual_seed(0)
    torch.save(get_model("squeezenet1_0").state_dict(), tmp_path / "squeezenet.pth")
    vgg = write_vgg19(tmp_path / "vgg19.safetensors")
    weights = ("--classifier.weights", tmp_path / "squeezenet.pth", "--vgg.weights", vgg)
    command = [sys.executable, ROOT / "benchmarks/training_sets.py", "--input", tmp_path / "photos", *weights]
    command += ["--output", tmp_path / "figures.json", "--max_side", "96", "--seeds", "2"]
    subprocess.run(list(map(str, command)), capture_output=True, timeout=600, check=True)
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["strength 0.25"]["ssim"] > figures["strength 1"]["ssim"]
    assert figures["strength 0.25"]["color_difference"] < figures["strength 1"]["color_difference"]
    assert all(0 <= figures["strength 1"][name] <= 1 for name in ("label_kept", "label_in_top5"))
    same, clean, _ = figures["diversity: mean palette distance in Lab units"].values()
    assert min(same, clean) > 1
