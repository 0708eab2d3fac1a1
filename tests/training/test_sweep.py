"""Short trials of several weights: the sweep as a person runs it, in this process and on Ray."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from training_factory import tiny

from nst_ops.cli import main
from nst_ops.config import ConfigError, TrainJohnsonConfig
from nst_ops.losses import PerceptualLoss
from nst_ops.models.johnson import JohnsonNet
from nst_ops.models.vgg import VGGFeatures
from nst_ops.training import sweep as sweep_module
from nst_ops.training.sweep import METRICS, SweepResult, Trial, measure, reason_of, sweep


def config(files: Path, output: Path, executor: str = "local", **trials: object) -> TrainJohnsonConfig:
    """A tiny sweep."""
    settings = tiny(files, output, warmup=0.0).model_dump()
    values = {"gram": [1, 20], "variation": [0.1], "noise": [0, 10], "steps": 3} | trials
    return TrainJohnsonConfig(**settings | {"sweep": True, "trials": values, "executor": executor})


def rows(output: Path) -> dict[tuple[float, float], dict]:
    """Rows of the sweep by the weights of Gram and noise."""
    found = json.loads((output / "sweep.json").read_text())["rows"]
    return {(row["weights"]["gram"], row["weights"]["noise"]): row for row in found}


def test_a_sweep_tries_every_combination(files, tmp_path, caplog, capsys):
    caplog.set_level("INFO")
    output = tmp_path / "output"
    file = tmp_path / "sweep.yaml"
    file.write_text(config(files, output).model_dump_json(exclude_none=True))
    assert main(["train-johnson", "--config", str(file)]) == 0
    told = capsys.readouterr().out
    assert "--loss.gram.weight X --loss.variation.weight Y --loss.noise.weight Z" in told
    assert "4 trials of 3 steps, 1 CPU thread each" in caplog.text
    found = rows(output)
    assert list(found) == [(1, 0), (1, 10), (20, 0), (20, 10)]
    for row in found.values():
        assert row["error"] is None
        assert sorted(row["metrics"]) == sorted(METRICS)
        assert np.isfinite(list(row["metrics"].values())).all()
        assert row["images_per_s"] >= 0
    assert len({tuple(row["metrics"].values()) for row in found.values()}) == 4, "weights made no difference"
    names = {path.name for path in output.iterdir()}
    assert names == {"run.json", "sweep.json", "sweep.png", "trials"}
    assert str(tmp_path) not in (output / "sweep.json").read_text()
    with Image.open(output / "sweep.png") as image:
        image.load()
        assert image.width > 3 * 128  # three images in a row, enlarged to be seen
        assert image.height > 5 * 128  # a row of content images, and one for each trial


def test_a_sweep_does_only_what_is_missing(files, tmp_path, caplog):
    caplog.set_level("INFO")
    sweep(config(files, tmp_path))
    first = rows(tmp_path)
    with Image.open(tmp_path / "sweep.png") as image:
        height = image.height
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("trials/gram_*/*")}
    result = sweep(config(files, tmp_path, gram=[1, 20, 1e38]))  # which cannot work, and hurts no other
    assert "4 of 6 trials are done already" in caplog.text
    assert all(path.stat().st_mtime_ns == then for path, then in kept.items())
    second = rows(tmp_path)
    assert {key: second[key] for key in first} == first
    for noise in (0, 10):
        assert "diverged" in second[1e38, noise]["error"]
        assert not second[1e38, noise]["metrics"]
    with Image.open(tmp_path / "sweep.png") as image:
        assert image.height > height
    assert [trial.error is None for trial in result.trials] == [True] * 4 + [False] * 2

    image = (tmp_path / "sweep.png").read_bytes()
    assert sweep(config(files, tmp_path, gram=[1, 20, 1e38])).trials == result.trials
    assert (tmp_path / "sweep.png").read_bytes() == image
    with pytest.raises(ConfigError, match=r"sweep\.steps was 3, is now 4"):
        sweep(config(files, tmp_path, steps=4))


def test_trials_do_not_depend_on_those_before_them(files, tmp_path):
    sweep(config(files, tmp_path / "both", noise=[0]))
    sweep(config(files, tmp_path / "second", gram=[20], noise=[0]))
    both, second = rows(tmp_path / "both"), rows(tmp_path / "second")
    assert both[20, 0]["metrics"] == second[20, 0]["metrics"]


def test_a_trial_that_breaks_is_tried_again_the_next_time(files, tmp_path, monkeypatch):
    def broken(*_: object) -> None:
        raise RuntimeError("out of luck\nand more")

    with monkeypatch.context() as patch:
        patch.setattr(sweep_module, "measure", broken)
        result = sweep(config(files, tmp_path, gram=[1], noise=[0]))
    assert [trial.error for trial in result.trials] == ["RuntimeError: out of luck"]
    assert result.exit_code == 1
    assert sweep(config(files, tmp_path, gram=[1], noise=[0])).exit_code == 0


@pytest.mark.ray
@pytest.mark.slow
def test_trials_on_ray_come_to_the_same(cluster, files, tmp_path, capfd):
    sweep(config(files, tmp_path / "ray", "ray", noise=[0]))
    told = capfd.readouterr()
    assert [row["error"] for row in rows(tmp_path / "ray").values()] == [None, None]
    assert "Trial status" not in told.out + told.err, "Tune speaks"
    assert sorted(path.name for path in (tmp_path / "ray").iterdir()) == [
        "run.json",
        "sweep.json",
        "sweep.png",
        "trials",
    ]
    sweep(config(files, tmp_path / "here", noise=[0]))
    on_ray, here = ({key: row["metrics"] for key, row in rows(tmp_path / name).items()} for name in ("ray", "here"))
    assert on_ray == here


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": {"content": "nowhere", "resize": 40}}, "nowhere"),
        ({"style": "nowhere.png"}, "nowhere"),
        ({"trials": {"gram": [-1]}}, "trials.gram: -1"),
        ({"trials": {"noise": [float("nan")]}}, "trials.noise: nan"),
    ],
)
def test_what_cannot_be_used_is_refused_first(changes, words, files, tmp_path):
    with pytest.raises(ConfigError, match=words):
        sweep(TrainJohnsonConfig(**config(files, tmp_path / "output").model_dump() | changes))
    assert not (tmp_path / "output").exists()


def test_an_output_of_somebody_else_is_refused(files, tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(ConfigError, match="holds files"):
        sweep(config(files, tmp_path))


def test_metrics_do_not_depend_on_the_weights_of_the_training(files, tmp_path):
    torch.manual_seed(0)
    one = config(files, tmp_path)
    loss = one.loss
    other = one.model_copy(update={"loss": loss.model_copy(update={"noise": loss.noise.model_copy()})})
    vgg = VGGFeatures("vgg16", loss.taps(), files / "vgg16.pth")
    network, content, style_image = JohnsonNet(4, 1), torch.rand(2, 3, 32, 32), torch.rand(1, 3, 48, 48)
    stylized, metrics = measure(network, content, style_image, vgg, one)
    assert measure(network, content, style_image, vgg, other)[1] == metrics
    assert tuple(metrics) == METRICS
    assert stylized.shape == content.shape
    assert metrics["temporal"] > 0
    still = loss.model_copy(update={"noise": loss.noise.model_copy(update={"amplitude": 0.0})})
    calm = one.model_copy(update={"loss": still})
    assert measure(network, content, style_image, vgg, calm)[1]["temporal"] == 0
    terms = PerceptualLoss(vgg, style_image, loss).score(stylized, content).terms
    assert metrics["gram"] == pytest.approx(float(terms["gram"]), rel=1e-4)


def test_the_table_names_errors_and_where_to_look():
    done = Trial({"gram": 1, "variation": 0.1, "noise": 0}, dict.fromkeys(METRICS, 1.23e-5), 1.0)
    failed = Trial({"gram": 20, "variation": 0.1, "noise": 0}, error="out of memory")
    table = SweepResult([done, failed], "runs/x/sweep.png").table()
    assert "out of memory" in table
    assert "1.23e-05" in table
    assert "runs/x/sweep.png" in table
    assert SweepResult([done, failed], "").exit_code == 0
    assert SweepResult([failed], "").exit_code == 1


def test_a_reason_is_one_line():
    assert reason_of(None) == "it did not finish"
    assert reason_of(ValueError("first\nsecond")) == "ValueError: first"
