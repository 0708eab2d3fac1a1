"""A worker and style images: what is stylized in which style, where it lies, its rows."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from job_runner import check_invariants, visible_files, write_image
from media_factory import moving_frames, write_video
from PIL import Image
from planning import plan_of, spec_of, units_of

from nst_ops.config import StylizeConfig
from nst_ops.config.stylize import GatysConfig
from nst_ops.media.images import UInt8Array
from nst_ops.pipeline.worker import Worker
from nst_ops.stylizers import Style


class MeanColor:
    """Moves the mean color of each frame to that of its style: little, but a stylizer."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.seen: Counter[tuple[str, int]] = Counter()

    def __call__(self, frames_nhwc: UInt8Array, styles: Sequence[Style] = ()) -> UInt8Array:
        assert len(styles) == len(frames_nhwc)
        self.batches.append([style.name for style in styles])
        self.seen.update({(style.name, id(style)) for style in styles})
        means = np.stack([style.pixels_hwc.mean((0, 1)) for style in styles])[:, None, None]
        moved = frames_nhwc / 8 + means - frames_nhwc.mean((1, 2), keepdims=True) / 8
        stylized: UInt8Array = moved.round().clip(0, 255).astype(np.uint8)
        return stylized


@pytest.fixture
def source(tmp_path: Path) -> Path:
    write_image(tmp_path / "in" / "cats" / "a.png", 40, 30, seed=0)
    write_image(tmp_path / "in" / "cats" / "b.png", 40, 30, seed=1)
    write_image(tmp_path / "in" / "dogs" / "a.png", 40, 30, seed=2)
    return tmp_path / "in"


def make_worker(source: Path, styles: Path, mode: str, **more: object) -> Worker:
    style = {"images": str(styles), "mode": mode, "side": 32, **more}
    config = StylizeConfig(
        input=str(source), output=str(source.parent / "out"), model={"kind": "identity"}, style=style
    )
    worker = Worker(spec_of(config))
    worker.run_spec = replace(worker.run_spec, kind=replace(worker.run_spec.kind, uses_device=True))  # in batches
    worker.stylizer = MeanColor()
    return worker


def stylize(worker: Worker) -> dict[str, dict[str, object]]:
    for unit in units_of(worker):
        result = worker(unit)
        assert not result.fatal
        assert not result.error
    return check_invariants(Path(worker.config.output))


def mean_color(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).mean((0, 1))


def style_color(styles: Path, name: str) -> np.ndarray:
    return mean_color(styles / f"{name}.png")


def relpaths(folder: Path) -> set[str]:
    files = (path.relative_to(folder).as_posix() for path in visible_files(folder))
    return {path for path in files if not path.startswith("manifest/")}


def test_each_style_paints_every_input_which_is_decoded_once(source, styles, monkeypatch):
    (source / "bad.jpg").write_bytes(b"no image")
    worker = make_worker(source, styles, "each")
    reads: Counter[str] = Counter()
    read_bytes = worker.source.read_bytes
    monkeypatch.setattr(worker.source, "read_bytes", lambda name: (reads.update([name]), read_bytes(name))[1])
    progress = [0, 0]
    worker.telemetry.add = lambda rows, frames: progress.__setitem__(0, progress[0] + rows)
    stylize(worker)
    output = source.parent / "out"
    inputs = {"cats/a.png", "cats/b.png", "dogs/a.png"}
    assert relpaths(output) == {f"{style}/{name}" for style in ("amber", "moss", "navy") for name in inputs}
    table = worker.manifest.table()
    for row in table.to_pylist():
        if row["status"] == "ok":
            stylized = mean_color(Path(row["output_uri"]))
            np.testing.assert_allclose(stylized, style_color(styles, row["style"]), atol=2)
    outcomes = Counter(zip(table["style"].to_pylist(), table["status"].to_pylist(), strict=True))
    assert outcomes == {(style, status): 3 if status == "ok" else 1 for style, status in outcomes}
    assert len(outcomes) == 6
    assert reads == dict.fromkeys([*inputs, "bad.jpg"], 1)
    assert progress[0] == 12
    assert max(len(set(batch)) for batch in worker.stylizer.batches) == 3  # styles mix in a batch
    assert len(worker.stylizer.seen) == 3  # and each is read once for all


def test_one_style_for_all_in_the_tree_of_the_input(source, styles):
    worker = make_worker(source, styles / "moss.png", "one")
    stylize(worker)
    assert relpaths(source.parent / "out") == relpaths(source)
    assert worker.manifest.table()["style"].to_pylist() == ["moss"] * 3
    stylized = mean_color(source.parent / "out/dogs/a.png")
    np.testing.assert_allclose(stylized, style_color(styles, "moss"), atol=2)


def test_a_random_style_for_each_in_the_tree_of_the_input(source, styles):
    for index in range(9):
        write_image(source / "birds" / f"{index}.png", 40, 30, seed=10 + index)
    worker = make_worker(source, styles, "random", seed=5)
    stylize(worker)
    table = worker.manifest.table().to_pylist()
    assert relpaths(source.parent / "out") == relpaths(source)
    assert len(table) == 12
    assert {row["style"] for row in table} == {"amber", "moss", "navy"}
    for row in table:
        relpath = Path(row["source_uri"]).relative_to(source).as_posix()
        digest = hashlib.sha256(f"5\n{relpath}".encode()).digest()
        assert row["style"] == ("amber", "moss", "navy")[int.from_bytes(digest[:8]) % 3]
        stylized = mean_color(Path(row["output_uri"]))
        np.testing.assert_allclose(stylized, style_color(styles, row["style"]), atol=2)


def test_videos_are_painted_once_per_style(source, styles):
    write_video(source / "video.mp4", moving_frames(5, 48, 32))
    frames = [Image.fromarray(frame) for frame in moving_frames(4, 48, 32)]
    frames[0].save(source / "moves.gif", save_all=True, append_images=frames[1:], duration=70)
    worker = make_worker(source, styles, "each")
    stylize(worker)
    videos = [row for row in worker.manifest.table().to_pylist() if row["kind"] == "video"]
    assert len(videos) == 2 * 3
    for row in videos:
        video = Path(row["output_uri"])
        assert video.parent == source.parent / "out" / row["style"]
        with av.open(str(video)) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert len(frames) == row["num_frames"] == (5 if video.name == "video.mp4" else 4)
        for frame in frames:
            np.testing.assert_allclose(frame.mean((0, 1)), style_color(styles, row["style"]), atol=6)


def test_what_is_missing_of_an_input_is_done_and_no_more(source, styles):
    worker = make_worker(source, styles, "each")
    stylize(worker)
    before = {(row["source_uri"], row["style"]): row for row in worker.manifest.table().to_pylist()}
    assert units_of(worker) == []
    (lost,) = [key for key in before if key[1] == "moss" and key[0].endswith("dogs/a.png")]
    worker.manifest.forget({lost})
    assert not (source.parent / "out/moss/dogs/a.png").exists()
    (unit,) = units_of(worker)
    assert [item["styles"] for item in unit.items] == [("moss",)]
    worker(unit)
    after = {(row["source_uri"], row["style"]): row for row in worker.manifest.table().to_pylist()}
    assert {key: row for key, row in after.items() if key != lost} == {
        key: row for key, row in before.items() if key != lost
    }
    assert after[lost]["output_sha256"] == before[lost]["output_sha256"]


def test_a_changed_input_is_done_again_in_every_style(source, styles):
    worker = make_worker(source, styles, "each")
    stylize(worker)
    write_image(source / "cats" / "a.png", 40, 30, seed=9)
    plan = plan_of(worker)
    stale = plan.stale()
    assert {style for _, style in stale} == {"amber", "moss", "navy"}
    assert len(stale) == 3
    (unit,) = plan.units()
    assert [item["relpath"] for item in unit.items] == ["cats/a.png"]


def test_a_style_image_that_breaks_fails_its_own_rows(source, styles, tmp_path):
    for name in ("good", "soon_bad"):
        write_image(tmp_path / "styles" / f"{name}.png")
    write_video(source / "video.mp4", moving_frames(3, 48, 32))
    worker = make_worker(source, tmp_path / "styles", "each")
    (tmp_path / "styles" / "soon_bad.png").write_bytes(b"overwritten since the run began")
    stylize(worker)
    table = worker.manifest.table().to_pylist()
    assert Counter((row["style"], row["status"]) for row in table) == {("good", "ok"): 4, ("soon_bad", "failed"): 4}
    messages = {row["error_message"] for row in table if row["status"] == "failed"}
    assert len(messages) == 1
    assert "soon_bad.png' cannot be read" in messages.pop()


def test_the_colors_of_the_input_can_be_kept(source, styles):
    write_image(source / "gray.png")
    Image.open(source / "gray.png").convert("L").save(source / "gray.png")
    worker = make_worker(source, styles, "each", preserve_color=True)
    rows = stylize(worker)
    for style in ("amber", "navy"):
        stylized = np.asarray(Image.open(str(rows[f"{style}/gray.png"]["output_uri"])).convert("RGB")).astype(int)
        assert np.ptp(stylized, axis=2).max() == 0  # gray as its source, however colorful the style
        luma = style_color(styles, style) @ np.array([0.299, 0.587, 0.114])
        assert abs(stylized.mean() - luma) < 2


def test_an_optimized_image_comes_with_its_loss_curve(source: Path, styles: Path, tmp_path: Path) -> None:
    import torch  # seconds, which other tests need not wait for
    import torchvision

    from nst_ops.stylizers.gatys import GatysStylizer

    torch.manual_seed(0)
    features = torchvision.models.vgg19().features[:10].state_dict()
    torch.save({f"features.{key}": value for key, value in features.items()}, tmp_path / "vgg19.pth")
    worker = make_worker(source, styles / "moss.png", "one")
    terms = {"content": {"taps": {"relu2_1": 1.0}}, "gram": {"taps": {"relu1_1": 1.0}}}
    worker.stylizer = GatysStylizer(
        GatysConfig(weights=str(tmp_path / "vgg19.pth"), optimizer="adam", steps=3, levels=1, **terms), "cpu"
    )
    rows = stylize(worker)
    assert {row["status"] for row in rows.values()} == {"ok"}
    report = source.parent / "out" / "report" / "losses"
    assert {str(path.relative_to(report)) for path in report.rglob("*.png")} == {
        "cats/a.png.png",
        "cats/b.png.png",
        "dogs/a.png.png",
    }
    with Image.open(report / "cats" / "a.png.png") as curve:
        assert curve.width > 400
