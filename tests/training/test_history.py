"""Loss curves: every row kept, as JSON and as a image, whatever the numbers are."""

import json
import math
import warnings

import pytest
from PIL import Image

from nst_ops.training.tracking import History

FIGURES = {"total": 3.0, "content": 1.0, "gram": 0.2, "grad_norm": 0.5, "learning_rate": 1e-3, "skipped": False}


def history(steps: int, **changes: float | bool) -> History:
    """A run of falling losses."""
    kept = History()
    for step in range(1, steps + 1):
        kept.append(step, FIGURES | {"total": 3 / step} | changes)
    return kept


def written(kept: History, folder) -> dict:
    """What is on disk; a warning of the plot is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kept.write(folder)
    with Image.open(folder / "losses.png") as image:
        assert image.format == "PNG"
        assert image.width >= 600
    return json.loads((folder / "losses.json").read_text(), parse_constant=pytest.fail)


def test_rows_are_flat_rounded_and_come_back(tmp_path):
    kept = History()
    kept.append(1, FIGURES | {"gram": 0.123456789})
    kept.validate(1, {"total": 2.0, "content": 0.98765432, "gram": 0.1})
    assert kept.terms == ["content", "gram"]
    on_disk = written(kept, tmp_path)
    assert on_disk["train"] == [{"step": 1} | FIGURES | {"gram": 0.12346}]
    assert on_disk["validation"] == [{"step": 1, "total": 2.0, "content": 0.98765, "gram": 0.1}]

    again = History(on_disk["train"], on_disk["validation"])
    again.append(2, FIGURES)
    assert [row["step"] for row in again.rows] == [1, 2]
    assert again.terms == kept.terms
    assert again.validations == kept.validations


def test_recent_is_the_mean_of_the_last_finite_steps():
    kept = History()
    for step in range(1, 61):
        kept.append(step, {"total": float(step), "skipped": False})
    kept.append(61, {"total": math.nan, "skipped": True})
    kept.append(62, {"total": 1e9, "skipped": True})  # the gradient was not finite
    assert kept.recent("total") == sum(range(36, 61)) / 25
    assert kept.recent("total", 1) == 60
    assert kept.skipped == 2
    assert math.isnan(kept.recent("gram"))
    assert math.isnan(History().recent("total"))


@pytest.mark.parametrize("steps", [0, 1, 2, 30])
def test_short_runs_are_drawn(steps, tmp_path):
    assert len(written(history(steps), tmp_path)["train"]) == steps


@pytest.mark.parametrize(
    "changes",
    [
        {"motion": 0.0},
        {"gram": -1.0},
        {"gram": 1e-12},
        {"gram": 1e12, "content": 1e-12},
        {"content": math.inf, "total": math.nan, "skipped": True},
    ],
)
def test_odd_values_are_drawn(changes, tmp_path):
    kept = history(12, **changes)
    kept.append(13, FIGURES | {"gram": math.inf})
    kept.validate(13, {"total": math.nan, "content": 0.5})
    row = written(kept, tmp_path)["train"][0]
    assert all(row[key] == (value if math.isfinite(value) else None) for key, value in changes.items())


def test_every_number_of_terms_has_its_panels(tmp_path):
    sizes = []
    for count in (0, 3, 4, 6):
        kept = History()
        kept.append(1, {"total": 1.0, **{f"term_{i}": 1.0 for i in range(count)}, "learning_rate": 0.1})
        written(kept, tmp_path)
        with Image.open(tmp_path / "losses.png") as image:
            sizes.append(image.size)
    assert sizes[0][1] == sizes[1][1] < sizes[2][1] == sizes[3][1]  # one row of panels, then two
    assert sizes[1][0] == sizes[3][0] > sizes[2][0]  # four columns, four, three


def test_a_long_run_is_drawn_in_seconds(tmp_path):
    assert len(written(history(100_000), tmp_path)["train"]) == 100_000


def test_what_was_there_stays_if_the_plot_fails(tmp_path, monkeypatch):
    written(history(3), tmp_path)
    before = (tmp_path / "losses.png").read_bytes()

    def broken(path, *curves):
        path.write_bytes(b"half a")
        raise RuntimeError("no fonts")

    monkeypatch.setattr("nst_ops.training.tracking.plot_losses", broken)
    with pytest.raises(RuntimeError, match="no fonts"):
        history(5).write(tmp_path)
    assert (tmp_path / "losses.png").read_bytes() == before
    assert not [path for path in tmp_path.rglob("*.png") if path.name != "losses.png"]
