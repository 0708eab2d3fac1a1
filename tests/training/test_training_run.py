"""Whole runs in this process: what comes out, what is refused, and what a stop costs."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from training_factory import tiny, tiny_vit_adain

from nst_ops.cli import main
from nst_ops.config import ConfigError, TrainJohnsonConfig, TrainVitAdainConfig
from nst_ops.models.checkpoint import load_checkpoint
from nst_ops.models.vit_adain import ViTAdaIN
from nst_ops.training import TrainingError, describe_outcome, run, train_network
from nst_ops.training.recorder import RunRecorder
from nst_ops.training.run import uses_ray
from nst_ops.training.worker import most_workers


def losses(output: Path) -> list[dict[str, float]]:
    """Rows of all steps."""
    rows: list[dict[str, float]] = json.loads((output / "losses.json").read_text())["train"]
    return rows


def changed(config: Any, **sections: Any) -> Any:
    """The configuration with other values in some sections."""
    return type(config)(**config.model_dump() | sections)


def interrupt_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Press Ctrl-C after a step."""
    record = RunRecorder.step

    def interrupted(recorder: RunRecorder, number: int, *rest: Any) -> None:
        record(recorder, number, *rest)
        if number == step:
            raise KeyboardInterrupt

    monkeypatch.setattr(RunRecorder, "step", interrupted)


@pytest.mark.timeout(300)  # it imports torch anew
def test_one_worker_trains_without_ray(files, tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(tiny(files, tmp_path / "out", steps=2).model_dump_json(exclude_none=True))
    script = (
        "import sys; from nst_ops.config import TrainJohnsonConfig, parse_config; "
        "from nst_ops.training import train_network; train_network(parse_config(TrainJohnsonConfig)); "
        "sys.exit('ray' in sys.modules)"
    )
    command = [sys.executable, "-c", script, "--config", str(file), "--executor", "local"]
    subprocess.run(command, check=True, timeout=280)
    assert (tmp_path / "out/model.safetensors").exists()


def test_a_run_writes_all_that_shows_it(files, tmp_path, caplog):
    caplog.set_level("INFO")
    config = tiny(files, tmp_path / "out")
    facts = train_network(config)
    rows = losses(tmp_path / "out")
    assert [row["step"] for row in rows] == list(range(1, 13))
    assert sum(row["total"] for row in rows[-3:]) < 0.8 * sum(row["total"] for row in rows[:3])

    saved = load_checkpoint(tmp_path / "out/model.safetensors")
    assert saved.facts == facts
    assert (facts["style"], facts["steps"], facts["workers"]) == ("Stripes", 12, 1)
    counts = [facts[f"content_images{which}"] for which in ("", "_skipped", "_held_out")]
    assert counts == [3, 1, 0]
    assert facts["recipe"]["loss"]["weights"] == "vgg16.pth"
    assert 0 <= facts["data_wait_share"] < 1
    assert "skipped broken.jpg" in caplog.text
    assert "starting 1 worker with 1 CPU thread" in caplog.text
    assert "step 12/12" in caplog.text
    assert str(files) not in json.dumps(facts) + (tmp_path / "out/model_card.md").read_text()
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {
        *("model.safetensors", "model_card.md", "grid.png", "grids", "losses.json", "losses.png"),
        *("state.pt", "run.json", "tensorboard"),
    }
    with Image.open(tmp_path / "out/grid.png") as grid:
        assert grid.width > grid.height
    assert "12 steps" in describe_outcome(config.output, facts)

    assert train_network(config) == facts
    assert "trained already" in caplog.text


def test_another_run_is_refused_with_the_difference(files, tmp_path):
    train_network(tiny(files, tmp_path / "out", steps=2))
    with pytest.raises(ConfigError, match=r"train\.steps was 2, is now 13.*--overwrite"):
        train_network(tiny(files, tmp_path / "out", steps=13))
    shutil.copytree(files, tmp_path / "other")
    shutil.copy(tmp_path / "other/content/0.png", tmp_path / "other/content/9.png")
    with pytest.raises(ConfigError, match=r"data\.content was '4 files.*is now '5 files"):
        train_network(tiny(tmp_path / "other", tmp_path / "out", steps=2))
    again = tiny(files, tmp_path / "out", steps=3).model_copy(update={"overwrite": True})
    assert train_network(again)["steps"] == 3


def test_a_set_of_styles_is_learned_with_discriminators(files, tmp_path):
    facts = train_network(tiny_vit_adain(files, tmp_path / "out"))
    assert facts["architecture"] == "vit_adain"
    assert {"identity", "adversarial", "discriminator"} <= losses(tmp_path / "out")[-1].keys()
    card = (tmp_path / "out/model_card.md").read_text()
    assert "A ViT-AdaIN network" in card
    assert "| style images | 3 |" in card
    assert isinstance(load_checkpoint(tmp_path / "out/model.safetensors").model, ViTAdaIN)
    with Image.open(tmp_path / "out/grid.png") as grid:
        assert grid.height > grid.width * 0.6  # three rows: content, its style, the stylized version


def test_a_stopped_run_goes_on_to_the_last_digit(files, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    settings: dict[str, Any] = {"save_every": 4, "ema_decay": 0.9, "steps": 10}
    whole, stopped = (
        changed(tiny(files, tmp_path / name, **settings), loss=tiny_loss(files, noise={"weight": 1.0}))
        for name in ("whole", "stopped")
    )
    train_network(whole)
    with monkeypatch.context() as patch:
        interrupt_at(6, patch)
        with pytest.raises(KeyboardInterrupt):
            train_network(stopped)
    facts = train_network(stopped)
    assert "going on from step 4" in caplog.text
    assert facts["steps"] == 10
    assert losses(tmp_path / "stopped") == losses(tmp_path / "whole")
    assert (tmp_path / "stopped/grid.png").read_bytes() == (tmp_path / "whole/grid.png").read_bytes()


def tiny_loss(files: Path, **terms: Any) -> dict[str, Any]:
    return tiny(files, Path("unused")).loss.model_dump() | terms


def write_as_version_0_1(output: Path) -> None:
    """Give an output the names that the first version wrote."""
    former = {"color": "colour", "gray": "grey"}
    record = json.loads((output / "run.json").read_text())
    for section in ("loss.content", "loss.gram", "loss.adversarial"):
        values = record["fingerprint"][section]
        values["grey"] = values.pop("gray")
    record["fingerprint"]["loss.content"]["of"] = "photo"
    views = record["fingerprint"]["loss.adversarial"]["views"]
    record["fingerprint"]["loss.adversarial"]["views"] = [former[view] for view in views]
    network = record["fingerprint"]["network"]
    network["normalisation"] = network.pop("normalization")
    (output / "run.json").write_text(json.dumps(record))

    state = torch.load(output / "state.pt", weights_only=True)
    discriminator = state["step"].pop("discriminator")
    weights = {}
    for key, value in discriminator["weights"].items():
        room, view, rest = key.split(".", 2)
        weights[f"{room}.{former[view]}.{rest}"] = value
    state["step"]["rivalry"] = {"adversary": weights, "optimizer": discriminator["optimizer"]}
    state["history"] = state["history"].replace('"discriminator"', '"judge"')
    facts = json.loads(state["facts"])
    facts["photos"] = facts.pop("content_images")
    torch.save(state | {"facts": json.dumps(facts)}, output / "state.pt")


def test_an_output_of_version_0_1_is_gone_on_with(files, tmp_path, monkeypatch):
    whole, stopped = (tiny_vit_adain(files, tmp_path / name) for name in ("whole", "stopped"))
    train_network(whole)
    with monkeypatch.context() as patch:
        interrupt_at(3, patch)
        with pytest.raises(KeyboardInterrupt):
            train_network(stopped)
    write_as_version_0_1(tmp_path / "stopped")
    facts = train_network(stopped)
    assert losses(tmp_path / "stopped") == losses(tmp_path / "whole")
    assert facts["content_images"] == 3
    assert "photos" not in facts
    write_as_version_0_1(tmp_path / "stopped")
    assert train_network(stopped)["content_images"] == 3
    with pytest.raises(ConfigError, match=r"holds another run: train\.steps was 4, is now 5\. Take"):
        train_network(changed(stopped, train=stopped.train.model_dump() | {"steps": 5}))


def test_former_names_of_keys_and_values_are_accepted(files, tmp_path):
    config = tiny_vit_adain(files, tmp_path)
    settings = config.model_dump()
    settings["network"]["normalisation"] = settings["network"].pop("normalization")
    for section in ("content", "gram", "adversarial"):
        settings["loss"][section]["grey"] = settings["loss"][section].pop("gray")
    settings["loss"]["content"]["of"] = "photo"
    settings["loss"]["adversarial"]["views"] = ["colour", "grey"]
    assert TrainVitAdainConfig(**settings) == config


def test_divergence_ends_with_the_remedy(files, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.chdir(files)
    config = tiny(files, tmp_path / "out", learning_rate=1e30, steps=60)
    with pytest.raises(TrainingError, match=r"not finite in 20 steps in a row.*--train\.learning_rate"):
        train_network(changed(config, data={"content": "content"}))
    assert "3 content images in memory" in caplog.text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train": {"batch_size": 8, "image_size": 32}}, r"3 readable images are fewer than.*batch_size 3"),
        ({"data": {"content": "content", "resize": 600_000}}, r"4 content images of 600000 px .*--data.limit 0"),
        ({"data": {"content": "nowhere"}}, r"data\.content: there is no folder '.*nowhere'"),
        ({"executor": "local", "workers": {"count": 2}}, "2 workers need Ray.*--executor auto"),
    ],
)
def test_what_cannot_be_trained_is_refused(changes, words, files, tmp_path, monkeypatch):
    monkeypatch.chdir(files)
    with pytest.raises(ConfigError, match=words):
        train_network(changed(tiny(files, tmp_path / "out"), **changes))


def test_a_gpu_that_is_not_there_is_refused(files, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config = changed(tiny(files, tmp_path / "out"), workers={"device": "cuda"}, executor="local")
    with pytest.raises(ConfigError, match=r"workers\.device: this machine has no GPU; take auto or cpu"):
        train_network(config)


def test_a_run_that_came_to_nothing_holds_no_claim(files, tmp_path):
    for steps in (5, 6):  # refused for the images, not for what the first left
        with pytest.raises(ConfigError, match="fewer than a batch"):
            train_network(tiny(files, tmp_path / "out", batch_size=8, steps=steps))
    (tmp_path / "out/state.pt").write_bytes(b"somebody's work")
    with pytest.raises(ConfigError, match=r"train\.steps was 6, is now 12"):
        train_network(tiny(files, tmp_path / "out", batch_size=8))


@pytest.mark.parametrize(
    ("executor", "cluster", "gpus", "workers", "expected"),
    [
        ("auto", False, 0, {}, False),
        ("auto", True, 0, {}, True),
        ("auto", False, 0, {"count": 2}, True),
        ("auto", False, 4, {}, True),
        ("auto", False, 1, {}, False),
        ("auto", False, 4, {"count": 1}, False),
        ("auto", False, 4, {"device": "cpu"}, False),
        ("local", True, 4, {}, False),
        ("ray", False, 0, {}, True),
    ],
)
def test_ray_is_used_where_it_is_needed(executor, cluster, gpus, workers, expected, monkeypatch):
    monkeypatch.setattr(run, "cluster_at_hand", lambda address: cluster)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    config = TrainJohnsonConfig(data={"content": "c"}, style="s", output="o", executor=executor, workers=workers)
    assert uses_ray(config) is expected


@pytest.mark.parametrize(("batch_size", "devices", "workers"), [(2, 1, 1), (8, 4, 4), (2, 4, 2), (6, 4, 3), (5, 4, 1)])
def test_as_many_workers_as_share_a_batch(batch_size, devices, workers):
    assert most_workers(batch_size, devices) == workers


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_command_with_a_word(number, files, tmp_path, monkeypatch, capsys):
    record = RunRecorder.step

    def killed(recorder: RunRecorder, step: int, *rest: Any) -> None:
        record(recorder, step, *rest)
        if step == 3:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(RunRecorder, "step", killed)
    file = tmp_path / "run.yaml"
    file.write_text(tiny(files, tmp_path / "out", save_every=2).model_dump_json(exclude_none=True))
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        assert main(["train-johnson", "--config", str(file), "--executor", "local"]) == 1
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    assert capsys.readouterr().err.endswith("stopped: run the same command again to go on\n")
    assert torch.load(tmp_path / "out/state.pt", weights_only=True)["done"] == 2
