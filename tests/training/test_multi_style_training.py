"""Training of a network of many styles: what comes out, where rows begin, what a step moves, what a stop costs."""

from __future__ import annotations

import io
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from PIL import Image
from torch.nn.parallel import DistributedDataParallel
from training_factory import tiny_multi_style, write_paintings

from nst_ops.config import ConfigError, TrainMultiStyleConfig
from nst_ops.losses.temporal import unsteadiness
from nst_ops.models.checkpoint import load_checkpoint
from nst_ops.models.conditional import ConditionalNet
from nst_ops.training import train_network
from nst_ops.training.multi_style_step import MultiStyleStep, SeparateRows
from nst_ops.training.optim import Ranks
from nst_ops.training.recorder import RunRecorder
from nst_ops.training.setup import read_setup

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_paintings(tmp_path_factory.mktemp("many"))


def changed(config: TrainMultiStyleConfig, **sections: object) -> TrainMultiStyleConfig:
    return TrainMultiStyleConfig(**config.model_dump() | sections)


def step_of(config: TrainMultiStyleConfig) -> MultiStyleStep:
    step = read_setup(config).step(config, CPU)
    assert isinstance(step, MultiStyleStep)
    return step


def photos(seed: int = 0, side: int = 96) -> torch.Tensor:
    coarse = torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear")


def test_paintings_become_named_rows_beside_the_identity(folder: Path, tmp_path: Path) -> None:
    facts = train_network(tiny_multi_style(folder, tmp_path / "out"))
    loaded = load_checkpoint(tmp_path / "out/model.safetensors")
    net = loaded.expect(ConditionalNet)
    assert net.names == ("painting_0", "painting_1", "identity")
    assert (facts["architecture"], facts["style_images"]) == ("multi_style", 2)
    for name in ("painting_0", "painting_1"):
        style = loaded.styles[name]
        assert (style.title, style.source) == (name, f"{name.replace('_', ' ')}.png")
        assert Image.open(io.BytesIO(style.thumbnail)).size == (128, 107)
    card = (tmp_path / "out/model_card.md").read_text()
    assert "A network of many styles" in card
    assert "--style.name NAME" in card
    assert "| palette | 0.2 |" in card
    assert str(folder) not in card + json.dumps(loaded.facts)
    rows = json.loads((tmp_path / "out/losses.json").read_text())
    assert [set(row) >= {"style", "palette", "content"} for row in rows["train"]] == [True] * 4
    assert ["identity" in row for row in rows["train"]] == [False, False, True, False]
    assert "identity" in rows["validation"][-1]
    with Image.open(tmp_path / "out/grid.png") as grid:  # a row each of photographs, two styles, identity
        assert grid.height > grid.width


def test_a_stopped_training_goes_on_to_the_same_weights(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, stopped = (tiny_multi_style(folder, tmp_path / name, steps=5) for name in ("whole", "stopped"))
    train_network(whole)
    record = RunRecorder.step

    def interrupted(recorder: RunRecorder, number: int, *rest: object) -> None:
        record(recorder, number, *rest)  # type: ignore[arg-type]
        if number == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunRecorder, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train_network(stopped)
    train_network(stopped)
    one, other = (
        load_checkpoint(tmp_path / name / "model.safetensors").model.state_dict() for name in ("whole", "stopped")
    )
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert (tmp_path / "stopped/grid.png").read_bytes() == (tmp_path / "whole/grid.png").read_bytes()


def test_a_step_moves_only_the_rows_that_it_draws(folder: Path, tmp_path: Path) -> None:
    step = step_of(tiny_multi_style(folder, tmp_path, batch_size=1))
    moved = []
    for number in range(1, 5):
        before = [row.detach().clone() for row in step.network.rows]
        step(photos(number)[:1], number)
        after = [row.detach() for row in step.network.rows]
        moved.append([not torch.equal(one, other) for one, other in zip(before, after, strict=True)])
    assert [sum(each[:2]) for each in moved] == [1, 1, 1, 1]  # one image, one style
    assert moved[0][:2] != moved[1][:2]  # every style comes once before any comes again
    assert [each[2] for each in moved] == [False, False, True, False]  # the identity at every third step


def test_each_group_is_clipped_and_learns_at_its_own_rate(folder: Path, tmp_path: Path) -> None:
    step = step_of(tiny_multi_style(folder, tmp_path, learning_rate=1e-3, row_learning_rate=2e-2, warmup=0.0))
    step(photos(), 1)
    rates = [group["lr"] for group in step.optimizer.param_groups]
    assert rates == pytest.approx([1e-3, *[2e-2] * 3])
    for weights, _ in step.groups[:3]:
        norm = torch.stack([weight.grad.norm() for weight in weights if weight.grad is not None]).norm()
        assert 0 < norm < 1.001


def test_training_lowers_the_loss(folder: Path, tmp_path: Path) -> None:
    step = step_of(tiny_multi_style(folder, tmp_path, steps=40, learning_rate=0.02, row_learning_rate=0.2))
    palettes = [step(photos(), number).terms["palette"] for number in range(1, 9)]
    assert sum(palettes[-2:]) < 0.8 * sum(palettes[:2])


def test_rows_of_the_same_name_are_kept_and_others_begin_at_one(folder: Path, tmp_path: Path) -> None:
    paintings = tmp_path / "paintings"
    paintings.mkdir()
    for old, new in (("painting 0", "waves"), ("painting 1", "klimt")):
        (paintings / f"{new}.png").write_bytes((folder / "paintings" / f"{old}.png").read_bytes())
    config = changed(
        tiny_multi_style(folder, tmp_path / "out"),
        paintings=[str(paintings)],
        network={"start_from": str(folder / "base.safetensors")},
    )
    setup = read_setup(config)
    assert isinstance(setup.network, SeparateRows)
    net = setup.network.joined()
    base = load_checkpoint(folder / "base.safetensors").expect(ConditionalNet)
    assert net.names == ("klimt", "waves", "identity")
    for name in ("waves", "identity"):
        assert torch.equal(net.row(name), base.row(name))
    assert any(torch.equal(net.row("klimt"), base.row(name)) for name in ("waves", "stars"))
    assert setup.styles is not None
    assert setup.styles.facts["waves"].license == "free"


def test_single_styles_weigh_the_photograph_differently(folder: Path, tmp_path: Path) -> None:
    config = tiny_multi_style(folder, tmp_path)
    even = step_of(config)(photos(), 1)
    loss = config.loss.model_dump() | {"contents": {"painting_0": 1.15}}
    uneven = step_of(changed(config, loss=loss))(photos(), 1)
    assert even.terms == pytest.approx(uneven.terms)
    assert 0.2 * even.terms["content"] < uneven.total - even.total < 0.8 * even.terms["content"]


def test_motion_is_a_term_only_with_weight(folder: Path, tmp_path: Path) -> None:
    config = tiny_multi_style(folder, tmp_path)
    assert "motion" not in step_of(config)(photos(), 1).terms
    loss = config.loss.model_dump() | {"motion": {"weight": 1.0}}
    step = step_of(changed(config, loss=loss))
    motion = [step(photos(), number).terms["motion"] for number in range(1, 4)]
    assert all(value > 0 for value in motion)


def work(rank: int, config: TrainMultiStyleConfig, folder: Path) -> None:
    """What one of two processes does in two steps of two images, each in one of three styles."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    wrap = partial(DistributedDataParallel, gradient_as_bucket_view=True, find_unused_parameters=True)
    step = read_setup(config).step(config, CPU, wrap, Ranks(rank, 2))
    first = step(photos()[rank : rank + 1], 1).flat()
    gradients = {key: weights.grad for key, weights in step.network.named_parameters()}
    gradients = {key: gradient.clone() for key, gradient in gradients.items() if gradient is not None}
    step(photos(1)[rank : rank + 1], 2)
    torch.save({"figures": first, "gradients": gradients, "weights": step.network.state_dict()}, folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_workers_learn_what_one_does(folder: Path, tmp_path: Path) -> None:
    third = tmp_path / "third.png"
    third.write_bytes((folder / "photos" / "photo 1.png").read_bytes())
    config = changed(tiny_multi_style(folder, tmp_path), paintings=[str(folder / "paintings"), str(third)])
    mp.spawn(work, (config, tmp_path), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    alone = step_of(config)
    assert first["figures"] == pytest.approx(alone(photos(), 1).flat(), rel=5e-3)
    drawn = [f"rows.{number}" for number, row in enumerate(alone.network.rows) if row.grad is not None]
    assert len(drawn) == 2
    assert [key for key in first["gradients"] if key.startswith("rows")] == drawn
    for key, weights in alone.network.named_parameters():
        if weights.grad is not None:
            # Rounding decides which of two near colors is the lighter one, and so where a gradient goes.
            assert (first["gradients"][key] - weights.grad).norm() < 0.03 * weights.grad.norm(), key
    for key, value in first["weights"].items():
        assert torch.equal(second["weights"][key], value)


def test_unsteadiness_is_none_for_what_moves_along() -> None:
    stylized = photos(1)
    moved = torch.roll(stylized, (5, -7), (2, 3))
    assert (unsteadiness(stylized, moved, (5, -7)) == 0).all()
    assert (unsteadiness(stylized, moved, (-7, 5)) > 0.01).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"loss": {"weights": "nowhere.pth"}}, "nowhere.pth"),
        ({"paintings": ["nowhere.jpg"]}, "there is no file 'nowhere.jpg'"),
        ({"network": {"start_from": "starry_night"}}, "holds a johnson network"),
    ],
)
def test_bad_input_is_refused(folder: Path, tmp_path: Path, change: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        train_network(changed(tiny_multi_style(folder, tmp_path / "out"), **change))


def test_names_that_do_not_fit_are_refused(folder: Path, tmp_path: Path) -> None:
    config = tiny_multi_style(folder, tmp_path / "out")
    loss = config.loss.model_dump() | {"contents": {"klimt": 0.1}}
    with pytest.raises(ConfigError, match="no painting is named klimt; there are painting_0, painting_1"):
        train_network(changed(config, loss=loss))
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 80, 3), dtype=np.uint8)).save(
        tmp_path / "identity.png"
    )
    with pytest.raises(ConfigError, match=r"identity\.png.*rename it"):
        train_network(changed(config, paintings=[str(tmp_path / "identity.png")]))
    with pytest.raises(ValueError, match="give the style images as --paintings"):
        changed(config, data={"content": "photos", "style": "paintings"})
