"""Types of number: the fastest that the hardware has, and training in each."""

import math

import pytest
import torch
from torch import Tensor

from nst_ops.training.optim import Precision

CPU = torch.device("cpu")


def images() -> Tensor:
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("amx", "avx512_bf16", "name"),
    [(False, False, "fp32"), (True, False, "bf16"), (False, True, "bf16"), (True, True, "bf16")],
)
def test_auto_takes_bf16_where_the_processor_has_it(amx, avx512_bf16, name, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16)
    assert Precision("auto", CPU).name == name


@pytest.mark.filterwarnings("ignore:.*CUDA is not available")
@pytest.mark.parametrize(("native", "name"), [(True, "bf16"), (False, "fp16")])
def test_auto_takes_fp16_on_older_gpus(native, name, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native or including_emulation)
    assert Precision("auto", torch.device("cuda")).name == name


def test_auto_works_on_this_machine():
    assert Precision("auto", CPU).name in ("fp32", "bf16")


@pytest.mark.parametrize(
    ("name", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_every_type_trains(name, dtype, new_step):
    step = new_step(precision=name, learning_rate=0.002)
    computed = set()
    step.network.residuals[0].conv1.conv.register_forward_hook(lambda *call: computed.add(call[-1].dtype))
    figures = [step(images(), number) for number in range(1, 6)]
    assert computed == {dtype}
    assert not any(each.skipped for each in figures)
    assert figures[-1].total < figures[0].total
    assert {parameter.dtype for parameter in step.network.parameters()} == {torch.float32}
    assert step.precision.scaler.is_enabled() == (name == "fp16")


def test_types_agree_on_the_loss_and_its_gradient(new_step):
    """Figures of fp16 are those before its scaling."""
    exact, *others = (new_step(precision=name)(images(), 1) for name in ("fp32", "bf16", "fp16"))
    for figures in others:
        assert figures.total == pytest.approx(exact.total, rel=0.02)
        assert figures.grad_norm == pytest.approx(exact.grad_norm, rel=0.1)


def test_an_overflow_in_fp16_skips_the_step_and_lowers_the_scale(new_step):
    step = new_step(precision="fp16", ema_decay=0.9)
    step(images(), 1)
    step.precision.scaler.update(2.0**40)
    before = [parameter.detach().clone() for parameter in step.network.parameters()]
    figures = step(images(), 2)
    assert figures.skipped
    assert math.isfinite(figures.total)
    assert step.precision.scaler.get_scale() == 2.0**39
    assert all(torch.equal(*pair) for pair in zip(step.network.parameters(), before, strict=True))
    step.precision.scaler.update(2.0**12)
    assert not step(images(), 3).skipped
