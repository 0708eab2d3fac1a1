"""A worker tells about once a second what it does, and nothing twice."""

import threading
import time

import pytest

from nst_ops.pipeline.prefetch import Timings, map_threads, prefetch
from nst_ops.pipeline.telemetry import QueueFill, Reading, Telemetry

NEVER_S = 3600.0


@pytest.fixture
def readings() -> list[Reading]:
    return []


def test_many_steps_are_one_message_and_none_is_lost(readings):
    telemetry = Telemetry(readings.append, every_s=NEVER_S)
    steps = [threading.Thread(target=lambda: [telemetry.add(1, 3) for _ in range(500)]) for _ in range(4)]
    for step in steps:
        step.start()
    for step in steps:
        step.join()
    telemetry.flush()
    telemetry.flush()
    assert [(reading.num_rows, reading.num_frames) for reading in readings] == [(2000, 6000), (0, 0)]


def test_it_tells_by_itself_while_a_unit_is_at_work(readings):
    telemetry = Telemetry(readings.append, every_s=0.02)
    telemetry.add(1, 0)
    until = time.monotonic() + 10
    while not readings:
        assert time.monotonic() < until
        time.sleep(0.01)
    assert readings[0].num_rows == 1


def test_seconds_are_told_as_they_grow_and_once(readings):
    telemetry = Telemetry(readings.append, every_s=NEVER_S)
    video, encoding = Timings(decode_s=1), Timings()
    with telemetry.follow(video, encoding):
        video.stylize_s += 2
        telemetry.flush()
        encoding.encode_s += 3
        telemetry.flush()
        video.wait_s += 4
    video.wait_s += 100  # nobody follows any more
    telemetry.flush()
    assert [reading.seconds for reading in readings] == [
        Timings(decode_s=1, stylize_s=2),
        Timings(encode_s=3),
        Timings(wait_s=4),
    ]


def test_the_network_is_at_work_until_the_last_thread_has_left_it(readings):
    telemetry = Telemetry(readings.append, every_s=NEVER_S)
    with telemetry.stylizing():
        with telemetry.stylizing():
            telemetry.flush()
        telemetry.flush()
    telemetry.flush()
    assert [reading.is_alive for reading in readings] == [True, True, False]


def test_a_video_among_the_images_of_a_unit_counts_once(readings):
    telemetry = Telemetry(readings.append, every_s=NEVER_S)
    unit, video = Timings(), Timings()
    with telemetry.follow(unit):
        with telemetry.follow(video):
            video.stylize_s += 2
        unit.add(video)
    telemetry.flush()
    assert readings[0].seconds == Timings(stylize_s=2)


def test_fill_is_the_mean_since_the_last_look():
    fill = QueueFill()
    assert fill.take() == 0
    fill(0.5)
    fill(1.0)
    assert fill.take() == 0.75
    assert fill.take() == 0


def test_fill_shows_whether_encoder_or_decoder_is_slow():
    def run(decode_s: float, encode_s: float) -> tuple[float, float]:
        decoder, encoder = QueueFill(), QueueFill()

        def frames():
            for number in range(30):
                time.sleep(decode_s)
                yield number

        frames_ahead = prefetch(frames(), 4, observe_fill=decoder)
        list(map_threads(lambda _: time.sleep(encode_s), frames_ahead, 4, Timings(), encoder))
        return decoder.take(), encoder.take()

    slow_decoder, slow_encoder = run(0.01, 0), run(0, 0.01)
    assert max(slow_decoder) < 0.5 < min(slow_encoder)
