"""A short training run, and what a step does with losses that are not finite."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from nst_ops.config import ConfigError, TrainJohnsonConfig, parse_config
from nst_ops.losses import PerceptualLoss
from nst_ops.models.checkpoint import load_checkpoint
from nst_ops.models.johnson import JohnsonNet
from nst_ops.models.vgg import VGGFeatures
from nst_ops.training.johnson import train_johnson
from nst_ops.training.step import DivergedError, PerceptualStep

ROOT = Path(__file__).parents[2]
LOSS = {
    "content_tap": "relu2_1",
    "style_taps": {"relu1_2": 1.0, "relu2_1": 1.0},
    "style_scales": {1.0: 1.0, 0.5: 1.0},
    "style_weight": 1.0,
}


def config(material: Path, output: Path, **changes: object) -> TrainJohnsonConfig:
    """A tiny run."""
    keys = {
        "photos": str(material / "photos"),
        "style": str(material / "style.png"),
        "output": str(output),
        "width": 4,
        "num_blocks": 1,
        "vgg": "vgg16",
        "vgg_weights": str(material / "vgg16.pth"),
        "loss": LOSS,
        "style_side": 48,
        "photo_side": 48,
        "crop": 32,
        "batch_size": 2,
        "steps": 12,
        "learning_rate": 0.02,
        "device": "cpu",
        "save_every": 8,
        "facts": {"style": "Stripes"},
    }
    return TrainJohnsonConfig(**(keys | changes))


@pytest.fixture
def step(material: Path) -> PerceptualStep:
    torch.manual_seed(0)
    vgg = VGGFeatures("vgg16", ["relu1_2"], material / "vgg16.pth")
    loss = PerceptualLoss(vgg, torch.rand(1, 3, 32, 32), "relu1_2", ["relu1_2"])
    return PerceptualStep(JohnsonNet(width=4, num_blocks=1), loss, steps=40, ema_decay=0.5)


def test_a_run_learns_and_says_so(material, tmp_path):
    facts = train_johnson(config(material, tmp_path))
    rows = json.loads((tmp_path / "losses.json").read_text())
    assert [row["step"] for row in rows] == list(range(1, 13))
    first, last = (sum(row["total"] for row in part) for part in (rows[:3], rows[-3:]))
    assert last < 0.8 * first
    assert rows[-1]["learning_rate"] < rows[2]["learning_rate"]

    saved = load_checkpoint(tmp_path / "model.safetensors")
    assert saved.facts == facts
    assert facts["style"] == "Stripes"
    assert (facts["steps"], facts["photos"], facts["photos_skipped"]) == (12, 3, 1)
    assert facts["recipe"]["vgg_weights"] == "vgg16.pth"
    assert str(material) not in json.dumps(facts)

    assert sorted(path.name for path in tmp_path.glob("*.png")) == [
        "grid_000008.png",
        "grid_000012.png",
        "losses.png",
    ]
    with Image.open(tmp_path / "grid_000012.png") as grid:
        assert grid.width == 2 * 64  # a photograph beside its result
        assert grid.height > 3 * 48


def test_the_seed_decides_everything(material, tmp_path):
    one, same, other = (
        train_johnson(config(material, tmp_path / name, seed=seed, steps=4))["losses"]
        for name, seed in (("one", 5), ("same", 5), ("other", 6))
    )
    assert one == same
    assert one != other


def test_going_on_from_a_checkpoint(material, tmp_path):
    train_johnson(config(material, tmp_path / "a"))
    rows = [json.loads((tmp_path / "a/losses.json").read_text())]
    start = str(tmp_path / "a/model.safetensors")
    train_johnson(config(material, tmp_path / "b", start_from=start, learning_rate=1e-4, steps=3))
    rows.append(json.loads((tmp_path / "b/losses.json").read_text()))
    assert rows[1][0]["total"] < rows[0][0]["total"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"photos": "nowhere"}, "nowhere"),
        ({"style": "nowhere.png"}, "nowhere"),
        ({"vgg_weights": "nowhere.pth"}, "nowhere"),
        ({"start_from": "nowhere.pth"}, "nowhere"),
        ({"loss": LOSS | {"content_tap": "relu4_1"}}, "it can serve the taps relu1_1"),
        ({"loss": LOSS | {"content_tap": "relu9_1"}}, "relu9_1"),
    ],
)
def test_what_cannot_be_used_is_a_config_error(changes, words, material, tmp_path):
    with pytest.raises(ConfigError, match=words):
        train_johnson(config(material, tmp_path, **changes))


def test_a_step_that_is_not_finite_changes_nothing(step):
    photos = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    assert not step(photos).skipped
    before = {key: value.clone() for key, value in step.model.state_dict().items()}
    averaged = {key: value.clone() for key, value in step.averaged.state_dict().items()}
    good, step.loss.style_weight = step.loss.style_weight, float("nan")
    assert step(photos).skipped
    for now, then in ((step.model, before), (step.averaged, averaged)):
        assert all((value == then[key]).all() for key, value in now.state_dict().items())
    step.loss.style_weight = good
    assert not step(photos).skipped
    assert any((value != before[key]).any() for key, value in step.model.state_dict().items())


def test_steps_that_stay_non_finite_end_the_training(step):
    step.loss.style_weight = float("inf")
    photos = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    for _ in range(9):
        step(photos)
    with pytest.raises(DivergedError, match="10 steps"):
        step(photos)


def test_the_average_follows_the_weights(step):
    start = [parameter.clone() for parameter in step.averaged.parameters()]
    step(torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8))
    for old, mean, now in zip(start, step.averaged.parameters(), step.model.parameters(), strict=True):
        torch.testing.assert_close(mean, (old + now) / 2)


def test_a_wrapped_network_is_trained_and_the_bare_one_kept(material):
    torch.manual_seed(0)
    vgg = VGGFeatures("vgg16", ["relu1_2"], material / "vgg16.pth")
    loss = PerceptualLoss(vgg, torch.rand(1, 3, 32, 32), "relu1_2", ["relu1_2"])
    net = JohnsonNet(width=4, num_blocks=1)
    before = net.encoder[0].conv.conv.weight.clone()
    step = PerceptualStep(net, loss, steps=4, wrap=torch.nn.Sequential)
    step(torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8))
    assert step.averaged is net
    assert (net.encoder[0].conv.conv.weight != before).any()


def test_the_configuration_that_ships_is_valid():
    config = parse_config(TrainJohnsonConfig, ["--config", str(ROOT / "configs" / "train_johnson.yaml")])
    assert config.loss.style_scales == {1.0: 1.0, 0.5: 1.0, 0.25: 0.5}
    assert "Starry Night" in config.facts["style"]


def test_a_crop_larger_than_the_photographs_is_refused(capsys):
    argv = ["--config", str(ROOT / "configs" / "train_johnson.yaml"), "--crop", "300"]
    with pytest.raises(SystemExit) as stopped:
        parse_config(TrainJohnsonConfig, argv)
    assert stopped.value.code == 2
    assert "'crop': larger than photo_side, 288" in capsys.readouterr().err
