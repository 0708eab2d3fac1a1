"""One step: it learns, leaves all alone where a loss is not finite, and can be taken up again."""

import copy
import io
import math

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from nst_ops.training.optim import learning_rate
from nst_ops.training.step import DivergedError

GRAM_ONLY = {"content": {"weight": 0.0}, "variation": {"weight": 0.0}}
TEMPORAL = {"noise": {"weight": 1.0}, "motion": {"weight": 1.0}}


def images(number: int = 1, count: int = 2) -> Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(number))


def weights(network: nn.Module) -> Tensor:
    """A copy of all of them."""
    return nn.utils.parameters_to_vector(network.parameters()).detach().clone()


def gradient(network: nn.Module) -> Tensor:
    """Return the gradient of all weights, as the step left it."""
    return torch.cat([parameter.grad.flatten() for parameter in network.parameters()])


def assert_same(one: object, other: object) -> None:
    """Bit for bit, tensors within mappings and lists too."""
    if isinstance(one, Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list):
        for mine, theirs in zip(one, other, strict=True):
            assert_same(mine, theirs)
    else:
        assert one == other


def kept(step) -> dict:
    """What the next step depends on, but for the count of skipped ones."""
    return copy.deepcopy({key: value for key, value in step.state().items() if key != "skips"})


def test_the_loss_falls(new_step):
    step = new_step()
    totals = [step(images(), number).total for number in range(1, 21)]
    assert sum(totals[-3:]) < 0.9 * sum(totals[:3])


def test_figures_are_those_of_the_loss_and_the_schedule(new_step):
    step = new_step(loss={"noise": {"weight": 3.0}}, steps=10, warmup=0.5)
    figures = step(images(), 2)
    assert figures.learning_rate == learning_rate(2, step.config)
    assert list(figures.terms) == ["content", "gram", "variation", "noise"]
    weighted = sum(getattr(step.loss.config, name).weight * value for name, value in figures.terms.items())
    assert figures.total == pytest.approx(weighted, rel=1e-5)
    assert figures.flat() == {
        "total": figures.total,
        **figures.terms,
        "grad_norm": figures.grad_norm,
        "learning_rate": figures.learning_rate,
        "skipped": False,
    }


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_changes_nothing(value, new_step):
    step = new_step(ema_decay=0.9, schedule="constant")
    step(images(), 1)
    before = kept(step)
    figures = step(torch.full((2, 3, 32, 32), value), 2)
    assert figures.skipped
    assert not math.isfinite(figures.total)
    assert_same(kept(step), before)
    assert not step(images(), 3).skipped
    assert not torch.equal(step.network.state_dict()["decoder.2.conv.weight"], before["model"]["decoder.2.conv.weight"])


def test_a_gradient_that_is_not_finite_changes_nothing(new_step):
    step = new_step(ema_decay=0.9, schedule="constant")
    step(images(), 1)
    before = kept(step)
    hook = step.network.decoder[-1].conv.bias.register_hook(lambda grad: grad * math.inf)
    figures = step(images(), 2)
    assert figures.skipped
    assert math.isfinite(figures.total)
    assert_same(kept(step), before)
    hook.remove()
    assert not step(images(), 3).skipped


def test_twenty_in_a_row_end_the_training(new_step):
    step = new_step()
    broken = torch.full((1, 3, 32, 32), math.nan)
    for number in range(1, 20):
        assert step(broken, number).skipped
    assert not step(images(), 20).skipped  # and the count begins anew
    for number in range(21, 31):
        step(broken, number)
    taken_up = new_step()
    taken_up.restore(step.state())  # and outlasts a stop
    for number in range(31, 40):
        taken_up(broken, number)
    with pytest.raises(DivergedError, match=r"20 steps in a row, up to step 40: .*learning_rate.*fp32"):
        taken_up(broken, 40)


@pytest.mark.parametrize("parts", [2, 3, 8])
def test_a_batch_may_be_taken_in_parts(parts, new_step):
    """Even in parts of unlike size, and in more than there are images."""
    whole, taken = (new_step(GRAM_ONLY, accumulate=count, clip_norm=1e9) for count in (1, parts))
    figures, of_parts = whole(images(count=3), 1), taken(images(count=3), 1)
    torch.testing.assert_close(gradient(taken.network), gradient(whole.network), rtol=1e-3, atol=1e-6)
    assert of_parts.flat() == pytest.approx(figures.flat(), rel=1e-4)


def test_a_batch_of_one_image_may_be_taken_in_parts(new_step):
    """Unlike images may not be: relative content is the error of a batch over its energy."""
    whole, taken = (new_step(accumulate=count, clip_norm=1e9) for count in (1, 2))
    batch = images(count=1).expand(4, -1, -1, -1)
    figures, of_parts = whole(batch, 1), taken(batch, 1)
    torch.testing.assert_close(gradient(taken.network), gradient(whole.network), rtol=1e-3, atol=1e-6)
    assert of_parts.flat() == pytest.approx(figures.flat(), rel=1e-4)


def test_long_gradients_are_shortened_and_measured_before(new_step):
    free, clipped = (new_step(clip_norm=norm) for norm in (1e9, 0.01))
    figures, of_clipped = free(images(), 1), clipped(images(), 1)
    assert figures.grad_norm == of_clipped.grad_norm == pytest.approx(gradient(free.network).norm().item())
    assert figures.grad_norm > 0.02
    shortened = gradient(free.network) * (0.01 / figures.grad_norm)
    torch.testing.assert_close(gradient(clipped.network), shortened, rtol=1e-3, atol=1e-8)


def test_the_average_follows_the_weights(new_step):
    step = new_step(ema_decay=0.5)
    for number in (1, 50):  # young, and of age
        mean = weights(step.averaged)
        step(images(number), number)
        share = 2 / 11 if number == 1 else 0.5
        torch.testing.assert_close(weights(step.averaged), share * mean + (1 - share) * weights(step.network))


def test_the_average_forgets_the_weights_it_began_with(new_step):
    plain, far_off = new_step(ema_decay=0.999), new_step(ema_decay=0.999)
    for parameter in far_off.averaged.parameters():
        parameter.add_(1000)
    for number in range(1, 21):
        plain(images(number), number)
        far_off(images(number), number)
    assert (weights(plain.averaged) - weights(far_off.averaged)).abs().max() < 0.01


def test_without_averaging_the_network_itself_is_judged(new_step):
    step = new_step(ema_decay=0)
    assert step.averaged is step.network


def test_noise_and_motion_follow_from_seed_and_step(new_step):
    first, same, later, other = (
        new_step(TEMPORAL, seed=seed)(images(), number).terms for seed, number in [(0, 1), (0, 1), (0, 2), (1, 1)]
    )
    assert first == same
    for term in ("noise", "motion"):
        assert len({first[term], later[term], other[term]}) == 3
    assert first["content"] == later["content"] == other["content"]


def test_a_wrapped_network_is_trained_and_the_bare_one_kept(new_step):
    step, bare = new_step(wrap=nn.Sequential), new_step()
    assert isinstance(step.forward, nn.Sequential)
    assert step(images(), 1) == bare(images(), 1)
    assert_same(step.state(), bare.state())


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("ema_decay", "precision"), [(0.0, "fp32"), (0.9, "fp32"), (0.9, "bf16")])
def test_taken_up_again_it_goes_on_bit_for_bit(ema_decay, precision, layout, new_step):
    def fresh():
        step = new_step(TEMPORAL, ema_decay=ema_decay, precision=precision)
        step.network.to(memory_format=layout)
        return step

    def go_on(step, numbers):
        return [step(images(number).to(memory_format=layout), number) for number in numbers]

    uninterrupted, stopped, taken_up = fresh(), fresh(), fresh()
    figures = go_on(uninterrupted, range(1, 7))
    halves = go_on(stopped, range(1, 4))
    file = io.BytesIO()
    torch.save(stopped.state(), file)
    file.seek(0)
    taken_up.restore(torch.load(file, weights_only=True))
    halves += go_on(taken_up, range(4, 7))
    assert halves == figures
    assert_same(taken_up.state(), uninterrupted.state())


class Waits(TorchDispatchMode):
    """Counts what makes the host wait for a device: numbers, and shapes that depend on values."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # torch's own form
        name = str(function).partition(".")[2]
        by_mask = name.startswith("index") and any(at is not None and at.dtype == torch.bool for at in args[1])
        if by_mask or name.startswith(("_local_scalar_dense", "nonzero", "equal", "masked_select", "_unique")):
            self.names.append(name)
        return function(*args, **(kwargs or {}))


EVERYTHING = {**TEMPORAL, "cel": {"weight": 1.0}, "mean_std": {"weight": 1.0, "taps": {"relu1_2": 1.0}}}


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_step_never_waits_for_the_device(precision, new_step):
    step = new_step(EVERYTHING, precision=precision, ema_decay=0.9)
    step(images(), 1)
    with Waits() as waits:
        step.start(images(), 2, None, images(3))
    assert waits.names == []
    with Waits() as seen:
        images().sum().item()
        images()[images() > 0.5]
    assert [name.partition(".")[0] for name in seen.names] == ["_local_scalar_dense", "index"]


def test_the_verdict_on_a_step_comes_while_the_next_one_runs(new_step):
    late, prompt = (new_step(ema_decay=0.9, schedule="constant") for _ in range(2))
    broken = torch.full((2, 3, 32, 32), math.nan)
    begun = [late.start(batch, number) for number, batch in enumerate((images(1), broken, images(3)), 1)]
    assert [each().skipped for each in begun] == [False, True, False]
    figures = [prompt(batch, number) for number, batch in enumerate((images(1), broken, images(3)), 1)]
    assert [each.skipped for each in figures] == [False, True, False]
    assert_same(late.state(), prompt.state())
