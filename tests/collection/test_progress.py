"""Rates, time left, and the history in the record of a run."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from nst_ops.collection.constants import PROGRESS_FILE
from nst_ops.collection.progress import History, Planned, Progress, Totals, rates, read_progress
from nst_ops.storage import Folder


def test_rates_are_those_between_two_totals():
    earlier = Totals(elapsed_s=100, num_rows=50, num_frames=1000, busy_s=150, wait_s=10)
    later = Totals(elapsed_s=160, num_rows=80, num_frames=1600, busy_s=240, wait_s=40)
    assert rates(earlier, later, num_workers=2) == (0.5, 10.0, 0.75, 0.25)
    assert rates(later, later, num_workers=2) == (0, 0, 0, 0)


def test_time_left_counts_images_and_frames_at_the_last_rate():
    planned = Planned(num_rows=100, num_frames=1000)
    done = Totals(elapsed_s=600, num_rows=40, num_frames=400)
    progress = Progress(run_id="a", planned=planned, done=done)
    assert progress.eta_s == 660 / (440 / 600)
    slower = progress.model_copy(update={"minute_ago": Totals(elapsed_s=540, num_rows=34, num_frames=346)})
    assert slower.eta_s == 660 / 1.0
    standing = progress.model_copy(update={"minute_ago": done._replace(elapsed_s=540)})
    assert standing.eta_s == progress.eta_s


def test_time_left_is_unknown_at_first_and_0_at_the_end():
    planned = Planned(num_rows=2, num_frames=1000)
    assert Progress(run_id="a", planned=planned, done=Totals(elapsed_s=9)).eta_s is None
    # Headers had claimed more frames than there were.
    assert Progress(run_id="a", planned=planned, done=Totals(9, 2, 700)).eta_s == 0


@given(st.integers(1, 3000), st.integers(4, 60))
def test_history_of_any_length_is_short_and_even(num_beats, limit):
    history = History(limit)
    for beat in range(1, num_beats + 1):
        history.add(Totals(elapsed_s=5.0 * beat, num_rows=beat))
    times = [sample.elapsed_s for sample in history.totals]
    assert len(times) <= limit
    assert times[0] == 0
    steps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert max(steps) <= 2 * min(steps)
    assert 5.0 * num_beats - times[-1] < 2 * max(steps)
    if num_beats < limit:
        assert times == [5.0 * beat for beat in range(num_beats + 1)]


def test_a_record_is_read_as_it_was_written(tmp_path):
    output = Folder(str(tmp_path))
    written = Progress(
        run_id="a", done=Totals(60, 3, 80, 1, 30.5, 2), history=[Totals(), Totals(60, 3)], statuses={"ok": 3}
    )
    output.write_bytes(PROGRESS_FILE, written.model_dump_json().encode())
    assert read_progress(output) == written


def test_another_file_is_no_record(tmp_path):
    output = Folder(str(tmp_path))
    assert read_progress(output) is None
    for content in (b"", b"{", b"[]", b"null", b"\xff\xfe"):
        output.write_bytes(PROGRESS_FILE, content)
        assert read_progress(output) is None
