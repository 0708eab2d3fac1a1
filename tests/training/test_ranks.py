"""Two workers that train together: as one would with the whole batch."""

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from nst_ops.config import LossConfig
from nst_ops.config.training import TrainConfig
from nst_ops.losses import PerceptualLoss
from nst_ops.models.johnson import JohnsonNet
from nst_ops.models.vgg import VGGFeatures
from nst_ops.storage import StorageFullError
from nst_ops.training.data import Batches, ImageSet
from nst_ops.training.loop import train
from nst_ops.training.optim import Ranks
from nst_ops.training.perceptual_step import PerceptualStep
from nst_ops.training.step import StepFigures

GRAM_ONLY = LossConfig(
    network="vgg16",
    content={"weight": 0.0},
    gram={"weight": 1.0, "taps": {"relu1_2": 1.0}, "scales": {1.0: 1.0}},
    variation={"weight": 0.0},
)


def batches(ranks: Ranks) -> Batches:
    pixels = torch.randint(0, 256, (7, 36, 36, 3), generator=torch.Generator().manual_seed(0)).byte().numpy()
    return Batches(ImageSet([pixels], [(0, row) for row in range(7)]), 4, 32, 0, ranks.rank, ranks.world)


def new_step(vgg: VGGFeatures, ranks: Ranks, **train: Any) -> PerceptualStep:
    torch.manual_seed(0)
    loss = PerceptualLoss(vgg, torch.rand(1, 3, 32, 32), GRAM_ONLY)
    config = TrainConfig(**{"steps": 4, "precision": "fp32", "warmup": 0, "clip_norm": 1e9} | train)
    return PerceptualStep(JohnsonNet(4, 1), loss, config, DistributedDataParallel if ranks.world > 1 else None, ranks)


def weights(step: PerceptualStep) -> Tensor:
    return nn.utils.parameters_to_vector(step.network.parameters()).detach().clone()


def one_step(vgg: VGGFeatures, ranks: Ranks, **train: Any) -> dict[str, Any]:
    """Figures and gradient of a first step."""
    step = new_step(vgg, ranks, **train)
    figures = step(batches(ranks)(1)[0].cut(), 1).flat()
    gradient = torch.cat([parameter.grad.flatten() for parameter in step.network.parameters()])
    return {"figures": figures, "gradient": gradient, "weights": weights(step)}


def one_broken_image(vgg: VGGFeatures, ranks: Ranks) -> dict[str, Any]:
    """Only the last worker has it; then a good batch."""
    step = new_step(vgg, ranks)
    images, before = batches(ranks)(1)[0].cut(), weights(step)
    broken = images.clone()
    if ranks.rank == ranks.world - 1:
        broken[-1] = math.nan
    first = step(broken, 1)
    unchanged = torch.equal(weights(step), before)
    second = step(images, 2)
    return {"skipped": [first.skipped, second.skipped], "unchanged": unchanged, "weights": weights(step)}


def checkpoints(vgg: VGGFeatures, ranks: Ranks, full: bool) -> str:
    """How a run ends whose first worker finds the disk full, or a plateau."""

    def save(number: int, *_: object) -> None:
        if full and number == 2:
            raise StorageFullError("no space left")

    done = []
    recorder = SimpleNamespace(step=lambda *_: None, validate=lambda number: float(number), save=save)
    step = new_step(vgg, ranks, save_every=1, early_stop=None if full else 2)

    class Counted:
        device, ranks, state, drawing = step.device, step.ranks, step.state, step.drawing

        def start(self, images: Tensor, number: int, *_: None) -> Callable[[], StepFigures]:
            done.append(number)
            return step.start(images, number)

    try:
        train(Counted(), batches(ranks), step.config, recorder if ranks.first else None)
    except StorageFullError as error:
        return f"{error} at {done[-1]}"
    return f"ended at {done[-1]}"


def everything(rank: int, folder: Path, vgg: VGGFeatures) -> None:
    """What one of the two processes does."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    ranks = Ranks(rank, 2)
    seen = {
        "mean": ranks.mean(torch.tensor([float(rank), math.nan if rank else 1.0])),
        "shared": ranks.share({"of": rank}),
        "whole": one_step(vgg, ranks),
        "parts": one_step(vgg, ranks, accumulate=2),
        "broken": one_broken_image(vgg, ranks),
        "full": checkpoints(vgg, ranks, full=True),
        "plateau": checkpoints(vgg, ranks, full=False),
    }
    torch.save(seen, folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def both(tmp_path_factory, vgg) -> list[dict[str, Any]]:
    """What each of two workers saw."""
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(everything, (folder, vgg), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


@pytest.mark.slow
@pytest.mark.parametrize("taken", ["whole", "parts"])
def test_they_learn_what_one_would_from_the_whole_batch(taken, both, vgg):
    alone = one_step(vgg, Ranks())
    for seen in both:
        torch.testing.assert_close(seen[taken]["gradient"], alone["gradient"], rtol=1e-3, atol=1e-6)
        assert seen[taken]["figures"] == pytest.approx(alone["figures"], rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("taken", ["whole", "parts", "broken"])
def test_their_networks_stay_the_same(taken, both):
    first, second = (seen[taken]["weights"] for seen in both)
    assert torch.equal(first, second)


@pytest.mark.slow
def test_what_is_not_finite_for_one_is_skipped_by_both(both):
    for seen in both:
        assert seen["broken"]["skipped"] == [True, False]
        assert seen["broken"]["unchanged"]


@pytest.mark.slow
def test_they_agree_on_means_and_on_what_the_first_has(both):
    for seen in both:
        assert seen["mean"][0] == 0.5
        assert seen["mean"][1].isnan()
        assert seen["shared"] == {"of": 0}


@pytest.mark.slow
def test_they_end_together(both):
    for seen in both:
        assert seen["full"] == "no space left at 2"
        assert seen["plateau"] == "ended at 3"


def test_alone_there_is_nothing_to_agree_on():
    assert Ranks().first
    assert torch.equal(Ranks().mean(torch.arange(3.0)), torch.arange(3.0))
    assert Ranks().share("own") == "own"
