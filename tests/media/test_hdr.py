"""High dynamic range: mapped to SDR by the curve of BT.2390, or kept in 10 bits with the data of its mastering."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.sidedata.sidedata import Type
from media_factory import BT2020, decoded, hdr_video, moving_frames, write_video

from nst_ops.config import VideoConfig
from nst_ops.media.video.color import HLG, PQ, Color
from nst_ops.media.video.hdr import Mastering, tone_map
from nst_ops.media.video.reader import VideoReader
from nst_ops.media.video.writer import VideoWriter


def written(source: Path, path: Path, container: str = "mp4", **video: object) -> VideoWriter:
    config = VideoConfig(preset="ultrafast", **video)
    with VideoReader(str(source), hdr=config.hdr) as reader:
        writer = VideoWriter(str(path), container, reader.info, reader.output_size, str(source), config)
        with writer:
            for frame in reader.frames():
                writer.write(frame)
    return writer


def gray(transfer: int, code: float, peak_nits: float = 1000) -> int:
    """The SDR code for a gray code in [0, 1]."""
    codes = np.full((2, 3, 3), round(code * 65535), np.uint16)
    mapped = tone_map(codes, Color(BT2020, 1, transfer, BT2020), peak_nits)
    assert np.ptp(mapped) == 0
    return int(mapped[0, 0, 0])


@pytest.mark.parametrize(
    ("transfer", "code", "expected"),
    [  # codes of PQ and HLG are those of BT.2408: 203 cd/m2 is 58 % of PQ and 75 % of HLG
        (PQ, 0, 0),
        (PQ, 0.58069, 230),
        (PQ, 0.75183, 255),
        (PQ, 1, 255),
        (HLG, 0, 0),
        (HLG, 0.75, 230),
        (HLG, 1, 255),
    ],
)
def test_reference_white_is_a_little_below_that_of_sdr(transfer, code, expected):
    assert gray(transfer, code) == pytest.approx(expected, abs=1)


def test_dark_light_is_shown_as_bright_as_it_is():
    # 26 cd/m2 is 44 % of the 1/2.4 power of the 203 that SDR's white stands for: 18 % gray of BT.2408 at 38 % of PQ
    assert gray(PQ, 0.38) == pytest.approx(255 * (26 / 203) ** (1 / 2.4), abs=2)


def test_more_light_is_never_darker():
    for transfer in (PQ, HLG):
        ramp = np.repeat(np.arange(0, 65536, 16, dtype=np.uint16)[None, :, None], 3, axis=2)
        mapped = tone_map(ramp, Color(BT2020, 1, transfer, BT2020), 4000).astype(int)
        assert (np.diff(mapped[0, :, 0]) >= 0).all()
        assert (np.diff(mapped[0, :, 0]) <= 2).all()


def test_a_brighter_peak_leaves_room_for_it():
    assert gray(PQ, 0.75183, 1000) > gray(PQ, 0.75183, 4000)
    assert gray(PQ, 0.3, 1000) == gray(PQ, 0.3, 4000)


def test_colors_of_bt709_come_out_of_bt2020_as_they_were():
    # BT.2087: linear BT.709 red in BT.2020, here at 100 cd/m2
    linear = np.array([0.6274, 0.0691, 0.0164]) * 100 / 10000
    power = linear**0.1593017578125
    codes = ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375
    mapped = tone_map(np.round(codes * 65535).astype(np.uint16)[None, None], Color(BT2020, 1, PQ, BT2020), 203)
    assert mapped[0, 0, 0] == pytest.approx(255 * (100 / 203) ** (1 / 2.4), abs=2)
    assert mapped[0, 0, 1:].max() <= 12


@pytest.mark.parametrize(("name", "transfer", "word"), [("a.mp4", PQ, "PQ"), ("a.mov", HLG, "HLG")])
def test_hdr_becomes_sdr_with_its_tags_and_a_note(tmp_path, name, transfer, word):
    source = hdr_video(tmp_path / name, transfer)
    notes = written(source, tmp_path / "b.mp4").notes
    assert notes == [f"HDR ({word}) is tone-mapped to SDR; video.hdr keep leaves it"]
    with av.open(str(tmp_path / "b.mp4")) as output:
        context = output.streams.video[0].codec_context
        assert (context.pix_fmt, int(context.colorspace), context.color_trc, context.color_primaries) == (
            *("yuv420p", 1),
            *(1, 1),
        )
    assert Type.MASTERING_DISPLAY_METADATA not in decoded(tmp_path / "b.mp4")[0].side_data


@pytest.mark.parametrize("codec", ["h264", "h265", "av1"])
@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_kept_hdr_has_ten_bits_and_its_mastering_data(tmp_path, codec, container):
    source = hdr_video(tmp_path / "a.mp4", PQ)
    notes = written(source, tmp_path / "b", container, codec=codec, hdr="keep").notes
    assert notes == ["HDR (PQ) is kept; its frames are stylized in 8 bits"]
    before, after = decoded(source)[0], decoded(tmp_path / "b")[0]
    assert after.format.name == "yuv420p10le"
    assert (after.colorspace, after.color_trc, after.color_primaries) == (BT2020, PQ, BT2020)
    assert Mastering.of(after).light_level == Mastering.of(before).light_level == (800, 200)
    for field in ("primaries", "luminance"):
        ours, theirs = np.array(getattr(Mastering.of(after), field)), np.array(getattr(Mastering.of(before), field))
        assert np.abs(ours - theirs).max() <= Fraction(1, 2000), field


def test_hdr_is_kept_in_the_subsampling_that_is_asked_for(tmp_path):
    source = hdr_video(tmp_path / "a.mp4", HLG)
    written(source, tmp_path / "b.mp4", codec="h265", hdr="keep", pixel_format="yuv444p")
    assert decoded(tmp_path / "b.mp4")[0].format.name == "yuv444p10le"


def test_unstated_mastering_data_is_none(tmp_path):
    frames = moving_frames(2, 64, 48)
    assert Mastering.of(decoded(write_video(tmp_path / "a.mp4", frames))[0]) == Mastering()
    assert Mastering().peak_nits == 1000
    assert Mastering().display(Fraction(1), Fraction(1)) == ""
