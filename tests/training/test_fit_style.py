"""``nst-ops fit-style``: a painting becomes a style of a file; what fails, what is resumed, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from training_factory import write_paintings

from nst_ops.config import ConfigError, FitStyleConfig
from nst_ops.config.training import FitDataConfig
from nst_ops.losses.moments import moments, palette, palette_loss, relative_error
from nst_ops.models.checkpoint import load_checkpoint
from nst_ops.models.conditional import ConditionalNet
from nst_ops.training import fit_styles as fit_styles_module
from nst_ops.training.fit_styles import fit_styles


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_paintings(tmp_path_factory.mktemp("fit"))


def config_of(folder: Path, output: Path, *paintings: Path, **fit: object) -> FitStyleConfig:
    return FitStyleConfig(
        paintings=[str(path) for path in paintings],
        output=str(output),
        base=str(folder / "base.safetensors"),
        data={"content": str(folder / "photos")},
        vgg={"weights": str(folder / "vgg.safetensors")},
        fit={"steps": 3, "size": 96, "side": 192, **fit},
        device="cpu",
    )


def test_paintings_become_styles_before_those_of_the_base(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "styles.safetensors"
    outcome = fit_styles(config_of(folder, output, folder / "paintings"))
    assert (outcome.fitted, outcome.failed) == (["painting_0", "painting_1"], {})
    loaded, base = load_checkpoint(output), load_checkpoint(folder / "base.safetensors")
    net, base_net = loaded.expect(ConditionalNet), base.expect(ConditionalNet)
    assert net.names == ("painting_0", "painting_1", "waves", "stars", "identity")
    assert torch.equal(net.row("stars"), base_net.row("stars"))
    assert torch.equal(net.contract[0].weight, base_net.contract[0].weight)
    assert not torch.equal(net.row("painting_0"), net.row("painting_1"))
    assert loaded.styles["painting_0"].thumbnail.startswith(b"\xff\xd8")
    assert loaded.styles["waves"].license == "free"
    assert loaded.facts["origin"] == "random"
    assert not Path(f"{output}.parts").exists()


def test_what_failed_is_told_and_what_was_fitted_is_kept(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "nst_ops")
    even, good = tmp_path / "even.png", folder / "paintings" / "painting 0.png"
    Image.new("RGB", (200, 200), "red").save(even)
    config = config_of(folder, tmp_path / "a.safetensors", even, good)
    outcome = fit_styles(config)
    assert outcome.fitted == ["painting_0"]
    assert "of one color" in outcome.failed[str(even)]
    part = Path(f"{config.output}.parts") / "painting_0.safetensors"
    assert part.is_file()
    Image.open(folder / "paintings" / "painting 1.png").save(even)
    assert fit_styles(config).fitted == ["even", "painting_0"]
    assert [record.message for record in caplog.records if "before" in record.message] == ["painting_0: fitted before"]
    assert not part.exists()


def test_a_network_of_its_own_has_no_other_style(folder: Path, tmp_path: Path) -> None:
    painting = folder / "paintings" / "painting 0.png"
    fit_styles(config_of(folder, tmp_path / "own.safetensors", painting, network=True))
    net = load_checkpoint(tmp_path / "own.safetensors").expect(ConditionalNet)
    base = load_checkpoint(folder / "base.safetensors").expect(ConditionalNet)
    assert net.names == ("painting_0",)
    assert not torch.equal(net.contract[0].weight, base.contract[0].weight)
    with pytest.raises(ConfigError, match="fit one at a time"):
        fit_styles(config_of(folder, tmp_path / "b.safetensors", painting, painting, network=True))


def test_fitting_lowers_the_loss(folder: Path, tmp_path: Path) -> None:
    losses = []
    for steps in (1, 40):
        output = tmp_path / f"{steps}.safetensors"
        fit_styles(config_of(folder, output, folder / "paintings" / "painting 0.png", steps=steps))
        losses.append(load_checkpoint(output).facts["fitted"]["losses"]["painting_0"])
    assert losses[1]["palette"] < 0.7 * losses[0]["palette"]


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"output": "a.pth"}, ConfigError, "must be a file that ends in .safetensors"),
        ({"base": "nothing"}, ConfigError, "base: no checkpoint 'nothing'"),
        ({"base": "starry_night"}, ConfigError, "base: .*holds a johnson network"),
        ({"paintings": ["nowhere.jpg"]}, ConfigError, "there is no file 'nowhere.jpg'"),
        ({"vgg": {"weights": "nowhere.pth"}}, ConfigError, "vgg.weights: .*nowhere.pth"),
        ({"device": "tpu"}, ConfigError, "device: .*tpu"),
        ({"data": {"content": "nowhere"}}, ConfigError, "data.content: there is no folder 'nowhere'"),
    ],
)
def test_bad_input_is_refused(
    folder: Path, tmp_path: Path, change: dict[str, object], error: type[Exception], words: str
) -> None:
    config = config_of(folder, tmp_path / "x.safetensors", folder / "paintings" / "painting 0.png")
    with pytest.raises(error, match=words):
        fit_styles(FitStyleConfig(**config.model_dump() | change))


def test_an_output_of_other_styles_is_not_replaced(folder: Path, tmp_path: Path) -> None:
    first, second = (folder / "paintings" / f"painting {number}.png" for number in (0, 1))
    output = tmp_path / "x.safetensors"
    fit_styles(config_of(folder, output, first, steps=1))
    with pytest.raises(ConfigError, match=r"holds the style 'painting_0'.*--base .*x\.safetensors"):
        fit_styles(config_of(folder, output, second, steps=1))
    config = config_of(folder, output, second, steps=1)
    fit_styles(config.model_copy(update={"base": str(output)}))
    assert {"painting_0", "painting_1"} <= set(load_checkpoint(output).styles)


def test_a_style_that_shows_nothing_is_told_in_a_line(folder: Path, tmp_path: Path) -> None:
    nothing = {
        "tiny.png": (Image.new("RGB", (40, 300), "red"), "38x288 px without its margin, too small"),
        "clear.png": (Image.new("RGBA", (200, 200), (200, 30, 10, 0)), "is transparent all over"),
        "even.png": (Image.new("RGB", (200, 200), "red"), "is of one color"),
    }
    for name, (image, _) in nothing.items():
        image.save(tmp_path / name)
    good = folder / "paintings" / "painting 0.png"
    outcome = fit_styles(config_of(folder, tmp_path / "a.safetensors", *map(tmp_path.joinpath, nothing), good))
    assert outcome.fitted == ["painting_0"]
    for name, (_, words) in nothing.items():
        reason = outcome.failed[str(tmp_path / name)]
        assert words in reason
        assert name in reason
        assert "\n" not in reason


def test_without_photographs_of_its_own_it_takes_those_that_come_along(folder: Path, tmp_path: Path) -> None:
    config = config_of(folder, tmp_path / "x.safetensors", folder / "paintings" / "painting 0.png", steps=1)
    assert fit_styles(config.model_copy(update={"data": FitDataConfig()})).fitted == ["painting_0"]


def test_every_photograph_that_comes_along_has_a_license() -> None:
    folder = Path(fit_styles_module.__file__).with_name("photographs")
    files = {path.name for path in folder.iterdir()} - {"LICENSES.md"}
    rows = [line.split("|") for line in (folder / "LICENSES.md").read_text().splitlines() if line.startswith("| `")]
    assert {row[1].strip(" `") for row in rows} == files
    assert all(row[3].strip() in ("CC0 1.0", "CC BY 4.0", "public domain") for row in rows)


@pytest.mark.ray
def test_on_ray_each_painting_is_a_task_and_the_styles_are_the_same(
    cluster: str, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    third = tmp_path / "third.png"
    third.write_bytes((folder / "photos" / "photo 1.png").read_bytes())
    paintings = [third, folder / "paintings"]
    (even := tmp_path / "even.png").write_bytes(b"no image")
    config = config_of(folder, tmp_path / "ray.safetensors", *paintings, even)
    config = config.model_copy(update={"executor": "ray", "ray_address": cluster})
    outcome = fit_styles(config)
    assert outcome.fitted == ["third", "painting_0", "painting_1"]  # in the order given, not in that of the tasks
    assert list(outcome.failed) == [str(even)]
    assert len(list(Path(f"{config.output}.parts").iterdir())) == 3
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    fit_styles(config_of(folder, tmp_path / "here.safetensors", *paintings).model_copy(update={"executor": "local"}))
    torch.set_num_threads(threads)
    many, one = (load_checkpoint(tmp_path / f"{name}.safetensors").model.state_dict() for name in ("ray", "here"))
    assert all(torch.equal(many[key], one[key]) for key in one)

    caplog.set_level("INFO", "nst_ops")
    assert fit_styles(config).fitted == outcome.fitted
    assert sum("fitted before" in record.message for record in caplog.records) == 3


def test_losses_are_none_for_the_same_and_ignore_padding() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(1, 6, 12, 14, generator=generator)
    mean, covariance = moments(features, border=2)
    inner = features[0, :, 2:-2, 2:-2].flatten(1)
    torch.testing.assert_close(mean[0], inner.mean(1))
    torch.testing.assert_close(covariance[0], inner.cov(correction=0), atol=1e-5, rtol=1e-4)
    assert relative_error(covariance, covariance) == 0
    assert relative_error(torch.zeros_like(covariance), covariance) == 1
    images = torch.rand(1, 3, 40, 40, generator=generator)
    assert palette(images).shape == (1, 19, 1024)
    moved = images.flatten(2)[..., torch.randperm(1600, generator=generator)].view_as(images)
    assert palette_loss(images, palette(images)) == 0
    assert 0 < palette_loss(moved, palette(images)) < 0.5 < palette_loss(images / 4, palette(images))
