"""Training on pairs: every content image with a style image, and discriminators beside the network."""

import copy
import io
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nst_ops.config import ConfigError, TrainJohnsonConfig, TrainVitAdainConfig
from nst_ops.models.checkpoint import save_checkpoint
from nst_ops.models.johnson import JohnsonNet
from nst_ops.models.vit_adain import ViTAdaIN
from nst_ops.training.data import Batches, ImageSet
from nst_ops.training.discriminator import DiscriminatorTraining
from nst_ops.training.optim import Precision, Ranks
from nst_ops.training.setup import build_network, read_setup
from nst_ops.training.step import TrainingStep

CPU = torch.device("cpu")
LOSS: dict[str, Any] = {
    "network": "vgg16",
    "content": {"taps": {"relu2_1": 1.0}},
    "gram": {"weight": 1.0, "taps": {"relu1_2": 1.0}, "scales": {1.0: 1.0}},
}
TRAIN = {"image_size": 32, "batch_size": 2, "steps": 20, "warmup": 0.0, "precision": "fp32"}
ENCODER = {
    "encoder": "vit_tiny_patch16_224",
    "encoder_options": {"depth": 1, "embed_dim": 24, "num_heads": 2},
    "encoder_weights": "none",
    "frozen": False,
    "widths": [8, 8, 8, 8],
}


def vit_config(files: Path, network: dict[str, Any] | None = None, **loss: Any) -> TrainVitAdainConfig:
    """A ViT-AdaIN of seconds."""
    return TrainVitAdainConfig(
        data={"content": str(files / "content"), "style": str(files / "content")},
        output="unused",
        network=ENCODER | (network or {}),
        loss=LOSS | {"weights": str(files / "vgg16.pth")} | loss,
        train=TRAIN | {"learning_rate": 0.003},
    )


def step_of(config: TrainVitAdainConfig) -> TrainingStep:
    return read_setup(config).step(config, CPU)


def images(seed: int) -> Tensor:
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def same(one: object, other: object) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def test_the_loss_of_pairs_falls_and_every_term_is_told(files):
    step = step_of(vit_config(files, identity={"weight": 1.0}))
    figures = [step(images(1), number, images(2)) for number in range(1, 21)]
    assert list(figures[0].terms) == ["content", "gram", "variation", "identity"]
    assert figures[-1].total < 0.9 * figures[0].total


def test_another_style_image_is_another_loss(files):
    config = vit_config(files)
    one, other = (step_of(config)(images(1), 1, images(style)) for style in (2, 3))
    assert one.terms["gram"] != other.terms["gram"]


def test_pairs_without_style_images_are_a_mistake(files):
    with pytest.raises((ValueError, TypeError)):
        step_of(vit_config(files))(images(1), 1)


def test_a_frozen_encoder_stays_as_it_is(files, tmp_path):
    donor = build_network(vit_config(files)).encoder.network.state_dict()
    torch.save(donor, tmp_path / "vit.pth")
    step = step_of(vit_config(files, {"frozen": True, "encoder_weights": str(tmp_path / "vit.pth")}))
    before = copy.deepcopy(step.network.state_dict())
    step(images(1), 1, images(2))
    after = step.network.state_dict()
    changed = {key.split(".")[0] for key in before if not torch.equal(before[key], after[key])}
    assert changed == {"decoder"}


def test_networks_are_told_apart_where_one_is_to_be_gone_on_from(files, tmp_path):
    save_checkpoint(tmp_path / "j.safetensors", JohnsonNet(4, 1), {})
    with pytest.raises(ConfigError, match=r"start_from.*JohnsonNet, not a ViTAdaIN"):
        read_setup(vit_config(files, {"start_from": str(tmp_path / "j.safetensors")}))
    model = build_network(vit_config(files))
    save_checkpoint(tmp_path / "v.safetensors", model, {})
    again = build_network(vit_config(files, {"start_from": str(tmp_path / "v.safetensors")}))
    assert isinstance(again, ViTAdaIN)
    assert again.config == model.config


def test_fresh_frozen_encoders_are_refused(files):
    with pytest.raises(ValueError, match="fresh weights has to learn"):
        vit_config(files, {"frozen": True})


ADVERSARIAL = {"adversarial": {"weight": 1.0, "width": 4, "views": ["color", "gray"]}}


def adversarial_step(files: Path, **train: Any) -> TrainingStep:
    """A small Johnson network that learns a set of images with discriminators."""
    config = TrainJohnsonConfig(
        data={"content": str(files / "content"), "style": str(files / "content")},
        output="unused",
        network={"width": 4, "num_blocks": 1, "norm": "layer", "upsampling": "bilinear"},
        loss=LOSS | {"weights": str(files / "vgg16.pth")} | ADVERSARIAL,
        train=TRAIN | {"betas": [0.5, 0.99], "reconstruct_first": 2} | train,
    )
    block = (images(7).permute(0, 2, 3, 1) * 255).byte().numpy()
    return read_setup(config).step(config, CPU, styles=ImageSet([block], [(0, 0), (0, 1)]))


def test_both_networks_learn_in_turn_after_the_first_steps(files):
    step = adversarial_step(files)
    assert step.discriminator is not None
    before = copy.deepcopy(step.discriminator.discriminators.state_dict())
    first = step(images(1), 1, images(2))
    assert list(first.terms) == ["reconstruction"]
    step(images(1), 2, images(2))
    assert same(before, step.discriminator.discriminators.state_dict())
    third = step(images(1), 3, images(2))
    assert list(third.terms) == ["content", "gram", "variation", "adversarial", "discriminator"]
    assert not same(before, step.discriminator.discriminators.state_dict())
    weighted = {"content": 1.0, "gram": 1.0, "variation": 0.1, "adversarial": 1.0}
    assert third.total == pytest.approx(sum(w * third.terms[t] for t, w in weighted.items()), rel=1e-4)


def test_discriminators_go_on_as_if_they_had_not_stopped(files):
    whole, stopped, resumed = (adversarial_step(files) for _ in range(3))
    expected = [whole(images(n), n, images(n + 50)) for n in range(1, 7)]
    for number in range(1, 5):
        stopped(images(number), number, images(number + 50))
    file = io.BytesIO()
    torch.save(stopped.state(), file)
    file.seek(0)
    resumed.restore(torch.load(file, weights_only=True))
    assert [resumed(images(n), n, images(n + 50)) for n in (5, 6)] == expected[4:]
    assert same(whole.state(), resumed.state())


def test_a_loss_that_is_not_finite_changes_neither_network(files):
    step = adversarial_step(files, reconstruct_first=0, schedule="constant")
    step(images(1), 1, images(2))
    before = copy.deepcopy({k: v for k, v in step.state().items() if k != "skips"})
    assert step(images(1), 2, images(2) * float("nan")).skipped
    after = {k: v for k, v in step.state().items() if k != "skips"}
    # power iteration of spectral normalization goes on at every look; all that is learned stays
    for state in (before, after):
        state["discriminator"]["weights"] = {
            key: value for key, value in state["discriminator"]["weights"].items() if "original" in key
        }
    assert same(before, after)


def test_discriminators_learn_to_tell_fakes(files):
    """Style images are bright, stylized ones dark: after some steps the discriminators' own loss is small."""
    config = TrainJohnsonConfig(
        data={"content": "c", "style": "s"}, output="o", loss=ADVERSARIAL | {"content": {"weight": 1.0}}
    )
    torch.manual_seed(0)
    settings = config.loss.adversarial.model_copy(update={"blurred": 0.0, "gray": 0.0, "learning_rate": 0.01})
    trained = DiscriminatorTraining(settings, config.train, Precision("fp32", CPU), Ranks())
    losses = []
    for _ in range(25):
        trained.zero_grad()
        losses.append(float(trained.backward(images(1) * 0.2, 0.8 + images(2) * 0.2)))
        trained.step(config.train.learning_rate, torch.zeros(()))
    assert losses[-1] < 0.5 * losses[0]
    cost = trained.generator_loss(images(3) * 0.2)
    assert cost > 0.5  # nearly the cost of a fake that is seen through
    assert all(parameter.requires_grad for parameter in trained.discriminators.parameters())


@pytest.mark.parametrize("why", ["the network's step is skipped", "a gradient is not finite"])
def test_discriminators_that_skip_a_step_stay_as_they_are(files, why):
    config = TrainJohnsonConfig(
        data={"content": "c", "style": "s"}, output="o", loss=ADVERSARIAL | {"content": {"weight": 1.0}}
    )
    trained = DiscriminatorTraining(config.loss.adversarial, config.train, Precision("fp32", CPU), Ranks())
    trained.backward(images(1), images(2))
    trained.step(1e-3, torch.zeros(()))
    before = copy.deepcopy(trained.state())
    trained.zero_grad()
    trained.backward(images(1), images(2))
    if why == "a gradient is not finite":
        next(trained.discriminators.parameters()).grad.fill_(math.nan)
    trained.step(1e-3, torch.tensor(float(why == "the network's step is skipped")))
    after = trained.state()
    weights = dict(trained.discriminators.named_parameters())  # buffers are those of the spectral norm's iteration
    assert all(torch.equal(weight, before["weights"][name]) for name, weight in weights.items())
    for number, moments in before["optimizer"]["state"].items():
        assert all(torch.equal(after["optimizer"]["state"][number][name], value) for name, value in moments.items())


def test_style_images_have_an_order_and_crops_of_their_own():
    images = ImageSet(
        [(torch.arange(5)[:, None, None, None] * torch.ones(1, 40, 40, 3)).byte().numpy()],
        [(0, row) for row in range(5)],
    )
    styles = ImageSet(
        [(100 + torch.arange(3)[:, None, None, None] * torch.ones(1, 36, 36, 3)).byte().numpy()],
        [(0, row) for row in range(3)],
    )
    alone, paired = Batches(images, 4, 32, seed=1), Batches(images, 4, 32, seed=1, styles=styles)
    seen = []
    for step in range(1, 4):
        content, style = (crops.cut() for crops in paired(step))
        assert torch.equal(content, alone(step)[0].cut())  # style images change nothing of the rest
        assert style is not None
        seen += (style[:, 0, 0, 0] * 255).round().int().tolist()
    assert sorted(seen) == sorted([100, 101, 102] * 4)
    workers = [Batches(images, 4, 32, 1, rank, 2, styles)(2)[1].cut() for rank in range(2)]
    together = torch.empty(4, 3, 32, 32)
    together[0::2], together[1::2] = workers
    assert torch.equal(together, paired(2)[1].cut())
