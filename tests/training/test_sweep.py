"""Trials with several weights side by side: the sweep as a person runs it, and its picture alone."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nst_ops.cli import main
from nst_ops.config import ConfigError, TrainJohnsonConfig
from nst_ops.losses import PerceptualLoss
from nst_ops.models.johnson import JohnsonNet
from nst_ops.models.vgg import VGGFeatures
from nst_ops.training.sweep import METRICS, SweepResult, Trial, measure, sweep
from nst_ops.training.sweep_sheet import sweep_sheet

RED, GREEN, BLUE = (np.array(color, np.uint8) for color in ([255, 0, 0], [0, 255, 0], [0, 0, 255]))


def settings(material: Path, output: Path, **trials: object) -> dict[str, object]:
    """A tiny sweep on one CPU core per trial."""
    return {
        "data": {"content": str(material / "photos"), "resize": 40},
        "style": str(material / "style.png"),
        "style_side": 48,
        "output": str(output),
        "network": {"width": 4, "num_blocks": 1},
        "loss": {
            "network": "vgg16",
            "weights": str(material / "vgg16.pth"),
            "content": {"taps": {"relu2_1": 1.0}},
            "gram": {"taps": {"relu1_2": 1.0, "relu2_1": 1.0}, "scales": {1.0: 1.0}},
        },
        "train": {"batch_size": 2, "image_size": 32, "learning_rate": 0.02, "warmup": 0.0},
        "workers": {"device": "cpu", "threads": 1},
        "sweep": True,
        "trials": {"gram": [1, 20], "variation": [0.1], "noise": [0, 10], "steps": 3} | trials,
        "ray_address": "local",
    }


def run(config: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sweep as the job runs it, but on the Ray of these tests."""
    file = tmp_path / "sweep.yaml"
    file.write_text(json.dumps(config))  # which YAML contains
    assert main(["train-johnson", "--config", str(file)]) == 0


def rows(output: Path) -> dict[tuple[float, float], dict]:
    """Rows of the sweep by the weights of Gram and noise."""
    found = json.loads((output / "sweep.json").read_text())["rows"]
    return {(row["weights"]["gram"], row["weights"]["noise"]): row for row in found}


@pytest.mark.ray
def test_a_sweep_and_its_continuation(cluster, material, tmp_path, monkeypatch, capfd, caplog):
    output = tmp_path / "output"
    run(settings(material, output), tmp_path, monkeypatch)
    told = capfd.readouterr()
    assert "--loss.gram.weight X --loss.variation.weight Y --loss.noise.weight Z" in told.out
    assert "4 trials of 3 steps, 1 thread each" in caplog.text
    assert "Trial status" not in told.out + told.err, "Tune speaks"
    first = rows(output)
    assert list(first) == [(1, 0), (1, 10), (20, 0), (20, 10)]
    for row in first.values():
        assert row["error"] is None
        assert sorted(row["metrics"]) == sorted(METRICS)
        assert np.isfinite(list(row["metrics"].values())).all()
        assert row["images_per_s"] >= 0
    assert len({tuple(row["metrics"].values()) for row in first.values()}) == 4, "weights made no difference"
    assert sorted(path.name for path in output.iterdir() if path.name != ".tmp") == [
        "run.json",
        "sweep.json",
        "sweep.png",
        "trials",
    ]
    written = (output / "sweep.json").read_text() + told.out.replace(str(output), "")
    assert str(tmp_path) not in written
    with Image.open(output / "sweep.png") as picture:
        picture.load()
        size = picture.size
    assert size[0] > 2 * 3 * 128  # two columns of three photographs, which are enlarged to be seen
    assert size[1] > 3 * 128  # photographs above two rows

    # another value: only its trials run, and one that cannot work does not hurt
    kept = {path: path.stat().st_mtime_ns for path in output.glob("trials/gram_*/*")}
    run(settings(material, output, gram=[1, 20, 1e38]), tmp_path, monkeypatch)
    assert "4 of 6 trials are done already" in caplog.text
    assert all(path.stat().st_mtime_ns == then for path, then in kept.items())
    second = rows(output)
    assert {key: second[key] for key in first} == first
    for noise in (0, 10):
        assert "diverged" in second[1e38, noise]["error"]
        assert not second[1e38, noise]["metrics"]
    with Image.open(output / "sweep.png") as picture:
        assert picture.width > size[0]

    # nothing is missing: no Ray, the same answer
    picture = (output / "sweep.png").read_bytes()
    result = sweep(TrainJohnsonConfig(**settings(material, output, gram=[1, 20, 1e38])))
    assert (output / "sweep.png").read_bytes() == picture
    assert [trial.error is None for trial in result.trials] == [True] * 4 + [False] * 2

    with pytest.raises(ConfigError, match=r"sweep\.steps was 3, is now 4"):
        sweep(TrainJohnsonConfig(**settings(material, output, steps=4)))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": {"content": "nowhere", "resize": 40}}, "nowhere"),
        ({"style": "nowhere.png"}, "nowhere"),
        ({"trials": {"gram": [-1]}}, "trials.gram: -1"),
        ({"trials": {"noise": [float("nan")]}}, "trials.noise: nan"),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_is_written(changes, words, material, tmp_path):
    with pytest.raises(ConfigError, match=words):
        sweep(TrainJohnsonConfig(**settings(material, tmp_path / "output") | changes))
    assert not (tmp_path / "output").exists()


def test_an_output_of_somebody_else_is_refused(material, tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(ConfigError, match="holds files"):
        sweep(TrainJohnsonConfig(**settings(material, tmp_path)))


def test_metrics_do_not_depend_on_the_weights_of_the_training(material, tmp_path):
    torch.manual_seed(0)
    config = TrainJohnsonConfig(**settings(material, tmp_path))
    other = config.model_copy(
        update={"loss": config.loss.model_copy(update={"noise": config.loss.noise.model_copy()})}
    )
    taps = config.loss.taps()
    vgg = VGGFeatures("vgg16", taps, material / "vgg16.pth")
    network, photos, painting = JohnsonNet(4, 1), torch.rand(2, 3, 32, 32), torch.rand(1, 3, 48, 48)
    stylized, metrics = measure(network, photos, painting, vgg, config)
    assert measure(network, photos, painting, vgg, other)[1] == metrics
    assert tuple(metrics) == METRICS
    assert stylized.shape == photos.shape
    assert metrics["temporal"] > 0
    still = config.loss.noise.model_copy(update={"amplitude": 0.0})
    calm = config.model_copy(update={"loss": config.loss.model_copy(update={"noise": still})})
    assert measure(network, photos, painting, vgg, calm)[1]["temporal"] == 0
    terms = PerceptualLoss(vgg, painting, config.loss).score(stylized, photos).terms
    assert metrics["gram"] == pytest.approx(float(terms["gram"]), rel=1e-4)


def flat(color: np.ndarray, side: int) -> np.ndarray:
    return np.full((side, side, 3), color, np.uint8)


def areas(sheet: np.ndarray, color: np.ndarray) -> int:
    return int((sheet == color).all(axis=2).sum())


def trials(gram: list[float], noise: list[float], side: int = 32, count: int = 4):
    """Results in blue, with long figures."""
    made = [
        Trial({"gram": g, "variation": 0.1, "noise": n}, dict.fromkeys(METRICS, 1.234e-5 * g), 1.0)
        for g in gram
        for n in noise
    ]
    return made, {trial.name: [flat(BLUE, side)] * count for trial in made}


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
@pytest.mark.parametrize(("side", "shown_side"), [(32, 128), (144, 144), (600, 256)])
def test_every_picture_is_whole_and_nothing_covers_it(count, side, shown_side):
    made, pictures = trials([1, 20, 1e10], [0, 10], side, count)
    sheet = sweep_sheet(flat(RED, 90), [flat(GREEN, side)] * count, made, pictures, "15 steps each")
    shown = min(count, 4) * shown_side**2
    assert areas(sheet, GREEN) == shown
    assert areas(sheet, BLUE) == 6 * shown
    assert areas(sheet, RED) > 0
    for edge in (sheet[:2], sheet[-2:], sheet[:, :2], sheet[:, -2:]):
        assert (edge == 255).all(), "cut off at the edge"


def test_one_trial_is_a_sheet_too():
    made, pictures = trials([12], [0], count=1)
    sheet = sweep_sheet(flat(RED, 90), [flat(GREEN, 32)], made, pictures, "15 steps each, from fresh weights")
    assert areas(sheet, BLUE) == areas(sheet, GREEN) == 128**2
    assert (sheet[:, -2:] == 255).all()


def test_a_failed_trial_says_why_in_its_place():
    made, pictures = trials([1, 20], [0])
    failed = [made[0], Trial(made[1].weights, error="diverged: " + "a long reason " * 60)]
    arguments = (flat(RED, 90), [flat(GREEN, 32)] * 4)
    whole = sweep_sheet(*arguments, made, pictures, "")
    sheet = sweep_sheet(*arguments, failed, {made[0].name: pictures[made[0].name]}, "")
    assert areas(sheet, BLUE) == areas(whole, BLUE) // 2
    assert sheet.shape == whole.shape
    reds = (sheet == [150, 40, 40]).all(axis=2)
    ys, xs = reds.nonzero()
    blue_ys, blue_xs = (whole == BLUE).all(axis=2).nonzero()
    assert blue_ys.min() < ys.min() < ys.max() < blue_ys.max()
    assert blue_xs.max() >= xs.max()


def test_the_table_names_errors_and_where_to_look():
    made, _ = trials([1, 20], [0])
    failed = Trial(made[1].weights, error="out of memory")
    table = SweepResult([made[0], failed], "runs/x/sweep.png").table()
    assert "out of memory" in table
    assert "1.23e-05" in table
    assert "runs/x/sweep.png" in table
    assert SweepResult([made[0], failed], "").exit_code == 0
    assert SweepResult([failed], "").exit_code == 1
