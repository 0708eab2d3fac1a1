"""An image that lacks only what no pixel needs is read, with a note; one that lacks pixels is refused."""

import io
import struct
import zlib

import numpy as np
import pytest
from media_factory import natural_image
from PIL import Image

from nst_ops.media.errors import UnreadableImageError
from nst_ops.media.images import decode_image, is_animated
from nst_ops.media.profiles import of_code_points
from nst_ops.media.repairs import missing_share
from nst_ops.media.video.reader import AnimationReader

END = b"\xff\xd9"
PNG_MARK = b"\x89PNG\r\n\x1a\n"


def saved(image: Image.Image, image_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def chunk(kind: bytes, content: bytes, checksum: int | None = None) -> bytes:
    checksum = zlib.crc32(kind + content) if checksum is None else checksum
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def with_chunk(png: bytes, added: bytes) -> bytes:
    """Put a chunk behind the header of a PNG."""
    return png[:33] + added + png[33:]


def photo() -> Image.Image:
    return natural_image("coffee", 160, 120)


# JPEG.

JPEGS = {
    "baseline": {},
    "4:4:4": {"subsampling": "4:4:4"},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_rows": 1},
}


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", JPEGS.values(), ids=JPEGS)
def test_a_jpeg_without_its_end_mark_is_whole(options, mode):
    whole = saved(photo().convert(mode), "JPEG", **options)
    expected = decode_image(whole)
    assert whole.endswith(END)
    assert expected.notes == ()
    for cut in (whole[:-2], whole[:-1]):
        decoded = decode_image(cut)
        assert np.array_equal(decoded.rgb_hwc, expected.rgb_hwc)
        assert "every row of pixels is there" in decoded.notes[0]
        assert decode_image(cut, 40).rgb_hwc.shape == (30, 40, 3)


@pytest.mark.parametrize("options", JPEGS.values(), ids=JPEGS)
@pytest.mark.parametrize("end", [b"", END])
def test_half_a_jpeg_is_refused_whatever_its_end_says(options, end):
    whole = saved(photo(), "JPEG", **options)
    for keep in (0.3, 0.5) if options.get("progressive") else (0.3, 0.5, 0.9):
        with pytest.raises(UnreadableImageError, match=r"truncated|cut off"):
            decode_image(whole[: int(len(whole) * keep)] + end)


def test_the_share_of_a_jpeg_that_is_missing_is_measured():
    whole = saved(photo(), "JPEG")
    header = whole.index(b"\xff\xda")
    for keep in (0.2, 0.5, 0.8):
        cut = whole[: header + int((len(whole) - header) * keep)]
        assert missing_share(cut) == pytest.approx(1 - keep, abs=0.15)
    assert missing_share(whole) == missing_share(whole + b"more behind the end") == 0


def test_a_progressive_jpeg_between_two_scans_is_not_whole():
    whole = saved(photo(), "JPEG", progressive=True)
    last_scan = whole.rindex(b"\xff\xda")
    assert missing_share(whole[:last_scan] + END) == 1


def test_a_jpeg_whose_last_corner_is_gray_is_no_cut_off_one():
    image = photo()
    image.paste((128, 128, 128), (100, 60, 160, 120))
    assert decode_image(saved(image, "JPEG", quality=95)).notes == ()
    assert decode_image(saved(Image.new("L", (64, 64), 128), "JPEG")).notes == ()


def test_a_last_corner_that_is_missing_is_noted():
    whole = saved(natural_image("coffee", 640, 480), "JPEG")
    decoded = decode_image(whole[:-40])
    assert "of its pixels" in decoded.notes[0]


def test_what_follows_a_jpeg_does_not_matter():
    whole = saved(photo(), "JPEG")
    decoded = decode_image(whole + b"\0\0\0\x18ftypmp42" + bytes(4000))  # the video of a motion photo
    assert np.array_equal(decoded.rgb_hwc, decode_image(whole).rgb_hwc)


# PNG.


@pytest.mark.parametrize("megabytes", [3, 30])
@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
def test_a_large_text_chunk_does_not_cost_the_png(kind, megabytes):
    text = zlib.compress(b"{workflow}" * (100_000 * megabytes))
    between = {b"zTXt": b"\0\0", b"iTXt": b"\0\1\0\0\0", b"iCCP": b"\0\0"}[kind]
    data = with_chunk(saved(photo(), "PNG"), chunk(kind, b"workflow" + between + text))
    decoded = decode_image(data)
    assert np.array_equal(decoded.rgb_hwc, np.asarray(photo()))
    assert bool(decoded.notes) == (megabytes > 16)


def test_an_empty_color_profile_does_not_cost_the_png():
    decoded = decode_image(with_chunk(saved(photo(), "PNG"), chunk(b"iCCP", b"")))
    assert np.array_equal(decoded.rgb_hwc, np.asarray(photo()))
    assert decoded.notes == ("its color profile is left out: it is empty or too large",)


def test_a_large_color_profile_is_heeded():
    linear = of_code_points(1, 8)
    large = struct.pack(">I", 3_000_000) + linear[4:] + bytes(3_000_000 - len(linear))
    decoded = decode_image(saved(Image.new("RGB", (8, 8), (128, 128, 128)), "PNG", icc_profile=large))
    assert np.abs(decoded.rgb_hwc.astype(int) - 188).max() <= 2


def test_many_text_chunks_do_not_cost_the_png():
    text = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10_000_000)))
    data = with_chunk(saved(photo(), "PNG"), text * 7)
    decoded = decode_image(data)
    assert np.array_equal(decoded.rgb_hwc, np.asarray(photo()))
    assert decoded.notes == ("its texts are left out",)


@pytest.mark.parametrize("kind", [b"pHYs", b"gAMA", b"tIME", b"prVt"])
def test_a_wrong_checksum_of_what_is_optional_is_passed_over(kind):
    data = with_chunk(saved(photo(), "PNG"), chunk(kind, bytes(9), checksum=1))
    decoded = decode_image(data)
    assert np.array_equal(decoded.rgb_hwc, np.asarray(photo()))
    assert decode_image(saved(photo(), "PNG")).notes == ()


def test_a_wrong_checksum_of_the_header_is_damage():
    data = bytearray(saved(photo(), "PNG"))
    data[19] ^= 1
    with pytest.raises(UnreadableImageError):
        decode_image(bytes(data))


def interlaced(rgb_hwc: np.ndarray) -> bytes:
    height, width, _ = rgb_hwc.shape
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    rows = b"".join(b"\0" + row.tobytes() for x, y, dx, dy in passes for row in rgb_hwc[y::dy, x::dx])
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 1))
    return PNG_MARK + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("is_interlaced", [False, True])
def test_a_png_without_its_end_is_whole(is_interlaced):
    whole = interlaced(np.asarray(photo())) if is_interlaced else saved(photo(), "PNG")
    for cut in (1, 8, 12, 14, 16, 18):  # end chunk, checksum of the pixels, that of zlib
        assert np.array_equal(decode_image(whole[:-cut]).rgb_hwc, np.asarray(photo()))
    for keep in (0.3, 0.6, 0.95):
        with pytest.raises(UnreadableImageError):
            decode_image(whole[: int(len(whole) * keep)])


@pytest.mark.parametrize("image_format", ["PNG", "GIF", "WEBP"])
def test_an_animation_keeps_its_frames_behind_a_large_text(image_format, tmp_path):
    frames = [natural_image(name, 32, 24) for name in ("coffee", "chelsea", "rocket")]
    data = saved(frames[0], image_format, save_all=True, append_images=frames[1:], duration=100)
    if image_format == "PNG":
        data = with_chunk(data, chunk(b"zTXt", b"workflow\0\0" + zlib.compress(bytes(5_000_000))))
    path = tmp_path / "a"
    path.write_bytes(data)
    assert is_animated(data)
    with AnimationReader(str(path)) as reader:
        assert len(list(reader.frames())) == 3


# Other formats.


def test_a_bmp_without_the_padding_of_its_last_row_is_whole():
    image = natural_image("coffee", 63, 40)  # 189 bytes a row, and 3 to make it 192
    whole = saved(image, "BMP")
    for cut in (1, 3):
        decoded = decode_image(whole[:-cut])
        assert np.array_equal(decoded.rgb_hwc, np.asarray(image))
    with pytest.raises(UnreadableImageError):
        decode_image(whole[:-4])


@pytest.mark.parametrize("is_bare", [False, True])
def test_a_jpeg_2000_without_its_end_mark_is_whole(is_bare):
    whole = saved(photo(), "JPEG2000", no_jp2=is_bare)
    for cut in (1, 2):
        decoded = decode_image(whole[:-cut])
        assert np.array_equal(decoded.rgb_hwc, np.asarray(photo()))
        assert decoded.notes
    with pytest.raises(UnreadableImageError):
        decode_image(whole[:-40])


def test_a_webp_without_its_padding_is_whole():
    images = (natural_image("coffee", width, 40) for width in range(40, 60))
    odd = next(data for data in (saved(image, "WEBP", lossless=True) for image in images) if data[16] % 2)
    decoded = decode_image(odd[:-1])
    assert np.array_equal(decoded.rgb_hwc, decode_image(odd).rgb_hwc)
    assert decoded.notes
    with pytest.raises(UnreadableImageError):
        decode_image(odd[:-2])


@pytest.mark.parametrize("image_format", ["PPM", "TIFF", "SGI", "AVIF", "GIF"])
def test_other_formats_end_where_their_pixels_end(image_format):
    with pytest.raises(UnreadableImageError):
        decode_image(saved(photo(), image_format)[:-10])
