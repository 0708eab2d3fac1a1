"""What a run leaves behind: everything that shows it, and nothing of the machine it ran on."""

import copy
import io
import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import torch
from PIL import Image
from tensorboardX.proto.event_pb2 import Event

from nst_ops.config import TrainJohnsonConfig
from nst_ops.models.checkpoint import load_checkpoint
from nst_ops.storage import Folder
from nst_ops.training.checkpointing import OWN, describe, read_state
from nst_ops.training.data import Batches, ImageSet, StoredImages
from nst_ops.training.grid import ValidationImages
from nst_ops.training.loop import Speed, train
from nst_ops.training.recorder import RunRecorder

LOSS = {
    "network": "vgg16",
    "content": {"taps": {"relu2_1": 1.0}},
    "gram": {"weight": 1.0, "taps": {"relu1_2": 1.0, "relu2_1": 1.0}, "scales": {1.0: 1.0}},
}
FILES = {
    "model.safetensors",
    "model_card.md",
    "state.pt",
    "grid.png",
    "grids/000002.png",
    "grids/000004.png",
    "losses.json",
    "losses.png",
}
PLACES = [(0, row) for row in range(5)]


def configuration(files: Path, output: str, **train: Any) -> TrainJohnsonConfig:
    settings = {"steps": 4, "save_every": 2, "batch_size": 2, "image_size": 32, "precision": "fp32"}
    return TrainJohnsonConfig(
        data={"content": str(files / "content")},
        style=str(files / "style.png"),
        output=output,
        network={"width": 4, "num_blocks": 1},
        loss=LOSS | {"weights": str(files / "vgg16.pth")},
        train=settings | train,
        facts={"painter": "Nobody"},
    )


class Run:
    """A run of four steps, or the part of it that ``state`` leaves; saved at 2 and at 4."""

    def __init__(
        self, config: TrainJohnsonConfig, new_step: Callable, state: dict | None = None, killed_at: int = 0
    ) -> None:
        self.reports: list[dict[str, Any]] = []
        step = new_step(**config.train.model_dump())
        pixels = np.random.default_rng(0).integers(0, 256, (5, 36, 36, 3), dtype=np.uint8)
        generator = torch.Generator().manual_seed(0)
        style_image, self.held_out = (torch.rand(n, 3, 32, 32, generator=generator) for n in (1, 2))
        facts = describe(config, StoredImages([], PLACES, PLACES[:2], {"broken.jpg": "damaged"}))
        report = self.reports.append
        with RunRecorder(
            config, step, ValidationImages(self.held_out, style_image), facts, state, report
        ) as self.recorder:
            if killed_at:
                self._kill_at(killed_at)
            batches = Batches(ImageSet([pixels], PLACES), 2, 32, seed=0)
            try:
                train(step, batches, config.train, self.recorder, state)
            except KeyboardInterrupt:
                assert killed_at
        self.step = step

    def _kill_at(self, number: int) -> None:
        told = self.recorder.step

        def kill(now: int, *rest: Any) -> None:
            told(now, *rest)
            if now == number:
                raise KeyboardInterrupt

        self.recorder.step = kill


@pytest.fixture
def remote() -> Iterator[str]:
    """A folder of a file system that is not this machine's."""
    uri = f"memory://runs-{uuid.uuid4().hex}/klimt"
    yield uri
    fsspec.filesystem("memory").rm(uri.removeprefix("memory:/").rsplit("/", 1)[0], recursive=True)


def listed(output: Folder) -> set[str]:
    return {file.relpath for file in output.files()}


def losses(output: Folder) -> dict[str, Any]:
    return json.loads(output.read_bytes("losses.json"))


def shown(output: Folder) -> list[tuple[int, str]]:
    """Step and tag of everything that TensorBoard would show."""
    found = []
    for name in sorted(name for name in listed(output) if name.startswith("tensorboard/")):
        data, start = output.read_bytes(name), 0
        while start < len(data):
            size = int.from_bytes(data[start : start + 8], "little")
            event = Event.FromString(data[start + 12 : start + 12 + size])
            found += [(event.step, value.tag) for value in event.summary.value]
            start += 12 + size + 4
    return found


def test_everything_is_there_at_the_end(files, tmp_path, new_step):
    run = Run(configuration(files, str(tmp_path / "klimt")), new_step)
    output = Folder(str(tmp_path / "klimt"))
    files = listed(output)
    assert {name for name in files if not name.startswith("tensorboard/")} == FILES
    assert {name.split("/")[0] for name in files} <= set(OWN)

    facts = run.recorder.facts
    saved = load_checkpoint(tmp_path / "klimt/model.safetensors")
    assert saved.facts == facts == json.loads(read_state(output)["facts"])
    for now, then in zip(saved.model.parameters(), run.step.averaged.parameters(), strict=True):
        torch.testing.assert_close(now, then.detach().half().float(), rtol=0, atol=0)
    assert (facts["steps"], facts["content_images"], facts["content_images_skipped"], facts["workers"]) == (4, 5, 1, 1)
    assert (facts["painter"], facts["precision"]) == ("Nobody", "fp32")
    assert facts["losses"].keys() == facts["validation"].keys() - {"total"} == {"content", "gram", "variation"}
    assert output.read_bytes("model_card.md").startswith(b"# klimt\n")

    kept = losses(output)
    assert [row["step"] for row in kept["train"]] == [1, 2, 3, 4]
    assert [row["step"] for row in kept["validation"]] == [2, 4]
    assert output.read_bytes("grid.png") == output.read_bytes("grids/000004.png")
    assert output.read_bytes("grid.png") != output.read_bytes("grids/000002.png")
    for name in ("grid.png", "losses.png"):
        Image.open(io.BytesIO(output.read_bytes(name))).load()
    curves = shown(output)
    assert {(2, "validation/total"), (4, "validation/total"), (4, "validation/grid")} <= set(curves)
    assert (4, "loss/gram") in curves


def test_it_says_nothing_of_the_machine(files, tmp_path, new_step):
    run = Run(configuration(files, str(tmp_path / "klimt")), new_step)
    card = (tmp_path / "klimt/model_card.md").read_text()
    for text in (card, json.dumps(run.recorder.facts)):
        assert str(files) not in text
        assert str(tmp_path) not in text
        assert str(Path.home()) not in text
    assert run.recorder.facts["recipe"]["loss"]["weights"] == "vgg16.pth"


def test_the_average_is_judged_on_the_held_out_images(files, tmp_path, new_step):
    run = Run(configuration(files, str(tmp_path / "klimt"), ema_decay=0.9), new_step)
    network = run.step.averaged.eval()
    with torch.no_grad():
        expected = run.step.loss.score(network(run.held_out), run.held_out)
    (*_, last) = losses(Folder(str(tmp_path / "klimt")))["validation"]
    assert last["total"] == pytest.approx(expected.total.item(), rel=1e-3)
    assert last["gram"] == pytest.approx(expected.terms["gram"].item(), rel=1e-3)


@pytest.mark.parametrize("killed_at", [3, 4])
def test_a_resumed_run_leaves_what_an_uninterrupted_one_does(killed_at, files, tmp_path, new_step):
    whole, parts = (Folder(str(tmp_path / name)) for name in ("whole", "parts"))
    Run(configuration(files, whole.root), new_step)
    Run(configuration(files, parts.root), new_step, killed_at=killed_at)
    assert read_state(parts)["done"] == 2
    second = Run(configuration(files, parts.root), new_step, read_state(parts))
    assert losses(parts) == losses(whole)
    assert parts.read_bytes("grid.png") == whole.read_bytes("grid.png")
    assert second.recorder.facts["steps"] == 4
    assert 0 < second.recorder.spent_s < read_state(parts)["spent_s"]


def test_a_run_that_is_done_has_its_facts_again(files, tmp_path, new_step):
    config = configuration(files, str(tmp_path / "klimt"))
    facts = copy.deepcopy(Run(config, new_step).recorder.facts)
    again = Run(config, new_step, read_state(Folder(config.output)))
    assert again.recorder.facts == facts
    assert again.reports == []


def test_another_file_system_gets_all_of_it(remote, files, new_step, monkeypatch):
    scratch = []
    make = RunRecorder.__init__

    def remember(self: RunRecorder, *args: Any) -> None:
        make(self, *args)
        scratch.append(self._local)

    monkeypatch.setattr(RunRecorder, "__init__", remember)
    output = Folder(remote)
    Run(configuration(files, remote), new_step, killed_at=3)
    Run(configuration(files, remote), new_step, read_state(output))
    files = listed(output)
    assert {name for name in files if not name.startswith("tensorboard/")} == FILES
    assert len([name for name in files if name.startswith("tensorboard/")]) == 2
    assert [row["step"] for row in losses(output)["train"]] == [1, 2, 3, 4]
    assert not any(folder.exists() for folder in scratch), "its copy on this machine was left"
    with output.local_copy("model.safetensors") as path:
        assert load_checkpoint(path).facts["steps"] == 4


def test_another_file_system_gets_the_last_curves_too(remote, files, new_step):
    """TensorBoard's events go through a queue: what is in it at the last checkpoint comes after it."""
    Run(configuration(files, remote), new_step)
    assert {(4, "loss/total"), (4, "validation/total"), (4, "validation/grid")} <= set(shown(Folder(remote)))


def test_the_wandb_run_is_found_again_on_another_file_system(remote, files, new_step, monkeypatch):
    found = []

    class NoTracking:
        def __init__(self, folder: Path, *_: Any) -> None:
            found.append((folder / "wandb_id.txt").exists())
            (folder / "wandb_id.txt").write_text("one and the same")

        def log(self, *_: Any, **__: Any) -> None: ...

        validation = flush = close = log

    monkeypatch.setattr("nst_ops.training.recorder.Tracking", NoTracking)
    Run(configuration(files, remote), new_step, killed_at=3)
    Run(configuration(files, remote), new_step, read_state(Folder(remote)))
    assert found == [False, True]


def test_reports_say_how_far_it_is(files, tmp_path, new_step):
    (*_, last) = Run(configuration(files, str(tmp_path)), new_step).reports
    assert last.keys() == {"since", "step", "losses", "images_per_s"}
    assert (last["since"], last["step"]) == (0, 4)
    assert last["losses"].keys() == {"content", "gram", "variation"}
    assert last["images_per_s"] > 0


def test_a_checkpoint_needs_a_validation(files, tmp_path, new_step):
    config = configuration(files, str(tmp_path))
    step, image = new_step(), torch.rand(1, 3, 32, 32)
    with (
        RunRecorder(config, step, ValidationImages(image, image), {}, None, print) as recorder,
        pytest.raises(AssertionError, match="validate before save"),
    ):
        recorder.save(1, {"step": step.state()}, Speed())
