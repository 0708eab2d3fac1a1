"""Images of every kind that people have come out right, or are refused with the reason."""

import io
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from media_factory import natural_image, psnr
from PIL import Image

from nst_ops.media import images
from nst_ops.media.errors import MediaError, UnreadableImageError, UnsupportedMediaError
from nst_ops.media.images import decode_image, encode_image, is_animated, is_video
from nst_ops.media.signatures import read_jxl_header

pytestmark = [
    pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning"),
    pytest.mark.filterwarnings("ignore:(Metadata Warning|Truncated File Read|Corrupt EXIF)"),
]
ORIENTATION, MAKE, X_RESOLUTION, DATE_TIME, EXIF, DATE_TAKEN = 0x0112, 0x010F, 0x011A, 0x0132, 0x8769, 0x9003


def saved(image: Image.Image, image_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def photo(width: int = 64, height: int = 48) -> Image.Image:
    return natural_image("coffee", width, height)


def rgb_of(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB"))


def exif_of(block: bytes) -> Image.Exif:
    exif = Image.Exif()
    exif.load(block)
    return exif


# HEIC, AVIF, JPEG XL.


@pytest.fixture(autouse=True)
def plugins() -> None:
    import pillow_heif

    pillow_heif.register_heif_opener()
    pytest.importorskip("pillow_jxl")


@pytest.mark.parametrize("image_format", ["HEIF", "AVIF", "JXL"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_new_formats_are_read_with_their_transparency(image_format, mode):
    source = photo().convert(mode)
    if mode == "RGBA":
        source.putalpha(Image.fromarray(np.tile(np.arange(0, 256, 4, dtype=np.uint8), (48, 1))))
    decoded = decode_image(saved(source, image_format, quality=95))
    assert (decoded.alpha_hw is not None) == (mode == "RGBA")
    opaque = slice(None) if mode == "RGB" else slice(40, None)
    assert psnr(decoded.rgb_hwc[:, opaque], rgb_of(photo())[:, opaque]) > 27


def test_a_heic_is_read_in_a_process_that_never_saw_one(tmp_path):
    (tmp_path / "a.jpg").write_bytes(saved(photo(), "HEIF"))
    decode = "decode_image(open(sys.argv[1], 'rb').read())"
    code = f"import sys; from nst_ops.media.images import decode_image; print({decode}.source_size)"
    found = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.jpg")], capture_output=True, text=True)
    assert found.stdout.strip() == "(64, 48)", found.stderr


@pytest.mark.parametrize("image_format", ["HEIF", "AVIF", "WEBP", "PNG", "JPEG"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
def test_an_orientation_is_applied_once_and_exif_kept(image_format, orientation):
    exif = Image.Exif()
    exif[ORIENTATION], exif[MAKE] = orientation, "Apple"
    exif.get_ifd(EXIF)[DATE_TAKEN] = "2024:01:02 03:04:05"
    decoded = decode_image(saved(photo(), image_format, quality=95, exif=exif.tobytes()))
    method = images._UPRIGHT.get(orientation)
    upright = photo() if method is None else photo().transpose(method)
    assert decoded.source_size == upright.size
    assert psnr(decoded.rgb_hwc, np.asarray(upright)) > 26
    kept = exif_of(decoded.exif)
    assert kept[MAKE] == "Apple"
    assert kept.get_ifd(EXIF)[DATE_TAKEN] == "2024:01:02 03:04:05"
    assert kept.get(ORIENTATION, 1) == 1


def test_a_jpeg_xl_without_its_package_says_what_to_install(monkeypatch):
    data = saved(photo(), "JXL")
    monkeypatch.setitem(sys.modules, "pillow_jxl", None)
    with pytest.raises(UnsupportedMediaError, match="pip install pillow-jxl-plugin"):
        decode_image(data)


# EXIF that lies or breaks.


def exif_with(tag: int, kind: int, count: int, value: bytes) -> bytes:
    """A block of EXIF with Make, one tag of any type and DateTime, by hand: Pillow would not write it."""
    entries = [(MAKE, 2, 6, 62), (tag, kind, count, 0), (DATE_TIME, 2, 20, 68)]
    assert len(value) <= 4
    packed = b""
    for name, form, number, offset in sorted(entries):
        field = value.ljust(4, b"\0") if name == tag else struct.pack("<I", offset)
        packed += struct.pack("<HHI", name, form, number) + field
    ifd = struct.pack("<H", len(entries)) + packed + bytes(4)
    texts = bytes(62 - 8 - len(ifd)) + b"Canon\0" + b"2024:01:02 03:04:05\0"
    return b"Exif\0\0II*\0\x08\0\0\0" + ifd + texts


@pytest.mark.parametrize(
    ("tag", "kind", "count", "value"),
    [
        (ORIENTATION, 2, 2, b"6\0"),  # a text
        (ORIENTATION, 7, 2, b"\6\0"),  # undefined bytes
        (ORIENTATION, 3, 2, b"\6\0\1\0"),  # two of them
        (ORIENTATION, 3, 1, b"\0\0"),
        (ORIENTATION, 3, 1, b"\x63\0"),
        (ORIENTATION, 4, 1, b"\xff\xff\xff\xff"),
        (ORIENTATION, 9, 1, b"\xff\xff\xff\xff"),
        (ORIENTATION, 11, 1, struct.pack("<f", float("nan"))),
        (ORIENTATION, 5, 1, b"\xff\xff\0\0"),  # a fraction that lies outside
        (X_RESOLUTION, 2, 3, b"72\0"),
        (X_RESOLUTION, 5, 1, b"\xff\xff\xff\x7f"),
        (EXIF, 4, 1, b"\xff\xff\xff\x7f"),  # a block that is not there
        (EXIF, 4, 1, b"\x08\0\0\0"),  # a block within itself
        (0x8825, 2, 2, b"x\0"),
        (0x9286, 2, 0, b""),
    ],
)
def test_one_bad_tag_costs_neither_the_picture_nor_the_others(tag, kind, count, value):
    decoded = decode_image(saved(photo(), "JPEG", quality=95, exif=exif_with(tag, kind, count, value)))
    assert sorted(decoded.rgb_hwc.shape[:2]) == [48, 64]
    kept = exif_of(decoded.exif)
    assert kept.get(MAKE) == "Canon"
    assert kept.get(DATE_TIME) == "2024:01:02 03:04:05"
    for image_format in ("JPEG", "PNG", "TIFF", "WEBP", "AVIF"):
        assert encode_image(decoded.rgb_hwc, None, image_format, 90, decoded.exif)


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0", b"Exif\0\0II", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", bytes(100), b"\xff" * 60000]
)
def test_exif_that_is_cut_off_or_nonsense_is_passed_over(exif):
    assert decode_image(saved(photo(), "JPEG", exif=exif)).rgb_hwc.shape == (48, 64, 3)


# Depths, planes and layouts of TIFF.


def tiff(*pages: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer, bigtiff=bool(options.pop("bigtiff", False))) as writer:
        for number, page in enumerate(pages):
            writer.write(
                page, **{name: value[number] if isinstance(value, list) else value for name, value in options.items()}
            )
    return buffer.getvalue()


RGB = np.asarray(natural_image("coffee", 64, 48))
GRAY = np.asarray(natural_image("coffee", 64, 48).convert("L"))
RGB_16 = RGB.astype(np.uint16) * 257
HALF = np.full((48, 64, 1), 128, np.uint8)

LAYOUTS = {
    "16 bit": (RGB_16, {"photometric": "rgb"}, RGB),
    "planes": (RGB.transpose(2, 0, 1), {"photometric": "rgb", "planarconfig": "separate"}, RGB),
    "tiles": (RGB, {"photometric": "rgb", "tile": (16, 16)}, RGB),
    "BigTIFF": (RGB, {"photometric": "rgb", "bigtiff": True}, RGB),
    "white is 0": (255 - GRAY, {"photometric": "miniswhite"}, GRAY[..., None]),
    "white is 0, 16 bit": (65535 - GRAY.astype(np.uint16) * 257, {"photometric": "miniswhite"}, GRAY[..., None]),
    "floats": ((GRAY / 255).astype(np.float32), {"photometric": "minisblack"}, GRAY[..., None]),
    "32-bit integers": (GRAY.astype(np.uint32), {"photometric": "minisblack"}, GRAY[..., None]),
    "alpha": (np.concatenate([RGB, HALF], -1), {"photometric": "rgb", "extrasamples": ["unassalpha"]}, RGB),
}


@pytest.mark.parametrize(("array", "options", "expected"), LAYOUTS.values(), ids=LAYOUTS)
def test_layouts_of_tiff_come_out_right(array, options, expected):
    if "extrasamples" in options:
        options = {**options, "extrasamples": [options["extrasamples"]]}
    decoded = decode_image(tiff(np.ascontiguousarray(array), **options))
    assert np.abs(decoded.rgb_hwc.astype(int) - expected).max() <= 1
    assert (decoded.alpha_hw is not None) == ("extrasamples" in options)


@pytest.mark.parametrize("compression", ["jpeg", "tiff_lzw", "tiff_deflate", "packbits", "zstd", "lzma"])
def test_compressions_of_tiff_come_out_right(compression):
    options = {"quality": 95} if compression == "jpeg" else {}
    assert psnr(decode_image(saved(photo(), "TIFF", compression=compression, **options)).rgb_hwc, RGB) > 35


@pytest.mark.parametrize(
    ("array", "options", "reason"),
    [
        (RGB_16.transpose(2, 0, 1), {"photometric": "rgb", "planarconfig": "separate"}, "interleaved"),
        ((RGB / 255).astype(np.float32), {"photometric": "rgb"}, "8 or 16 bits a channel"),
        (GRAY.astype(np.uint32) * 16_843_009, {"photometric": "minisblack"}, r"outside \[0, 65535\]"),
        (GRAY.astype(np.int32) - 5, {"photometric": "minisblack"}, r"outside \[0, 65535\]"),
    ],
)
def test_what_would_come_out_wrong_is_refused_by_its_name(array, options, reason):
    with pytest.raises(MediaError, match=reason):
        decode_image(tiff(np.ascontiguousarray(array), **options))


HALVED, QUARTER = np.ascontiguousarray(RGB[::2, ::2]), np.ascontiguousarray(RGB[::4, ::4])


@pytest.mark.parametrize(
    "data",
    [
        tiff(RGB, HALVED, QUARTER, photometric="rgb", subfiletype=[0, 1, 1]),
        tiff(RGB, HALVED, QUARTER, photometric="rgb"),
        tiff(np.ascontiguousarray(RGB[::3, ::3]), RGB, photometric="rgb", subfiletype=[1, 0]),
        tiff(RGB, GRAY > 128, photometric=["rgb", "minisblack"], subfiletype=[0, 4]),
    ],
    ids=["pyramid", "unmarked pyramid", "thumbnail first", "mask"],
)
def test_smaller_copies_in_a_tiff_are_no_pages(data):
    decoded = decode_image(data)
    assert np.array_equal(decoded.rgb_hwc, RGB)
    assert "smaller copies" in decoded.notes[0]
    assert decode_image(data, 32).rgb_hwc.shape == (24, 32, 3)


@pytest.mark.parametrize("subfiletype", [0, 2])
def test_a_document_of_pages_is_refused(subfiletype):
    with pytest.raises(UnsupportedMediaError, match="2 pages"):
        decode_image(tiff(RGB, RGB[::-1].copy(), photometric="rgb", subfiletype=subfiletype))


def test_a_raw_file_called_tiff_is_refused():
    data = tiff(RGB, photometric="rgb", extratags=[[(50706, 1, 4, b"\1\4\0\0", True)]])
    with pytest.raises(UnsupportedMediaError, match="raw file"):
        decode_image(data)


# Depths of PNG and PNM.


def png(depth: int, color: int, rows: np.ndarray, *chunks: tuple[bytes, bytes]) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width = rows.shape[:2]
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    pixels = zlib.compress(b"".join(b"\0" + row.astype(f">u{depth // 8}").tobytes() for row in rows))
    return (
        b"\x89PNG\r\n\x1a\n"
        + header
        + b"".join(chunk(*c) for c in chunks)
        + chunk(b"IDAT", pixels)
        + chunk(b"IEND", b"")
    )


def test_16_bit_pngs_keep_their_colors_and_what_is_clear():
    half = np.full((48, 64, 1), 32896, np.uint16)
    assert np.array_equal(decode_image(png(16, 2, RGB_16)).rgb_hwc, RGB)
    decoded = decode_image(png(16, 6, np.concatenate([RGB_16, half], -1)))
    assert np.array_equal(decoded.rgb_hwc, RGB)
    assert set(np.unique(decoded.alpha_hw)) == {128}
    gray = GRAY.astype(np.uint16) * 257
    decoded = decode_image(png(16, 0, gray, (b"tRNS", struct.pack(">H", int(gray[0, 0])))))
    assert np.array_equal(decoded.rgb_hwc[..., 0], GRAY)
    assert np.array_equal(decoded.alpha_hw == 0, GRAY[0, 0] == GRAY)


@pytest.mark.parametrize(("peak", "divisor"), [(65535, 1), (65535, 300), (1023, 64)])
def test_a_pgm_is_scaled_by_the_peak_it_names(peak, divisor):
    values = GRAY.astype(np.int64) * 257 // divisor
    decoded = decode_image(b"P5\n64 48\n%d\n" % peak + values.astype(">u2").tobytes())
    assert np.abs(decoded.rgb_hwc[..., 0] - values * 255 / peak).max() <= 1


def test_the_largest_of_the_sizes_of_an_icon_is_taken():
    data = saved(photo(), "ICO", sizes=[(16, 12), (64, 48), (32, 24)])
    assert decode_image(data).source_size == (64, 48)


def test_layers_of_cmyk_are_the_right_way_round():
    image = photo().convert("CMYK")
    with_adobe = saved(image, "JPEG", quality=95)
    assert b"Adobe" in with_adobe
    for data in (with_adobe, saved(image, "TIFF")):
        assert psnr(decode_image(data).rgb_hwc, rgb_of(image)) > 35


# Sizes.


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (2, 1)])
@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP"])
def test_images_of_extreme_shape_are_images(size, image_format):
    decoded = decode_image(saved(Image.new("RGB", size, (9, 200, 90)), image_format), 64)
    assert max(decoded.rgb_hwc.shape[:2]) == min(64, max(size))
    assert min(decoded.rgb_hwc.shape[:2]) == 1


@pytest.fixture
def limit():
    yield images.limit_megapixels
    images.limit_megapixels(images.DEFAULT_MEGAPIXELS)


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "AVIF", "HEIF", "JXL"])
def test_an_image_above_the_limit_is_refused_with_the_key(image_format, limit):
    data = saved(photo(1000, 800), image_format)
    limit(0.8)
    assert decode_image(data).source_size == (1000, 800)
    limit(0.79)
    with pytest.raises(
        UnsupportedMediaError, match=r"0\.8 megapixels, and images\.max_megapixels is 0\.79: shrink it, or"
    ):
        decode_image(data)


@given(st.integers(1, 300), st.integers(1, 300), st.booleans())
@settings(max_examples=15)
def test_the_size_of_a_jpeg_xl_is_known_before_it_is_decoded(width, height, in_container):
    data = saved(Image.new("L", (width, height)), "JXL", use_container=in_container)
    assert read_jxl_header(data[:1024]) == (width, height, False)


def test_a_jpeg_xl_that_moves_says_so():
    """The bits of ISO/IEC 18181-1: a small square of 64 pixels, and metadata with an animation."""
    bits = "1" + "11100" + "100" + "0" + "1" + "000" + "0" + "0" + "1"
    packed = int(bits[::-1], 2).to_bytes(4, "little")
    assert read_jxl_header(b"\xff\x0a" + packed) == (64, 64, True)


def test_a_jpeg_counts_as_it_is_decoded(limit):
    image = photo(1600, 1200)
    limit(0.1)
    assert decode_image(saved(image, "JPEG"), 64).source_size == (1600, 1200)
    with pytest.raises(UnsupportedMediaError, match="max_megapixels"):
        decode_image(saved(image, "JPEG", progressive=True), 64)


def test_a_jpeg_of_200_megapixels_takes_no_memory_at_a_small_size(tmp_path):
    """libjpeg writes a blank image of any size in a moment, if told one row after the other."""
    (tmp_path / "a.jpg").write_bytes(saved(Image.new("L", (16320, 12240), 90), "JPEG"))
    code = (
        "import sys, resource; from nst_ops.media.images import decode_image\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print(*decode_image(open(sys.argv[1], 'rb').read(), 320).rgb_hwc.shape)\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)"
    )
    found = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.jpg")], capture_output=True, text=True)
    shape, megabytes = found.stdout.splitlines()
    assert shape == "240 320 3"
    assert int(megabytes) < 60


def test_a_panorama_is_decoded_as_small_as_its_longer_side_allows(limit):
    data = saved(Image.new("L", (30_000, 1_800), 90), "JPEG")
    limit(1)  # of 54 megapixels, at an eighth 0.85
    assert decode_image(data, 320).rgb_hwc.shape == (19, 320, 3)


# What is no image, or none that is opened.


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"<!DOCTYPE html><html>", "web page"),
        (b"  \n<HTML>", "web page"),
        (b"%PDF-1.7\n", "PDF"),
        (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b"\0\5\x16\7" + bytes(80), "AppleDouble"),
        (b"\0\0\0\x18ftypcrx " + bytes(40), "raw file"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not an image"),
    ],
)
def test_what_is_no_image_is_called_by_its_name(data, reason):
    with pytest.raises(UnreadableImageError, match=reason):
        decode_image(data)


def test_a_film_is_known_by_its_first_bytes():
    assert is_video(b"\0\0\0\x20ftypisom" + bytes(40))
    assert not is_video(saved(photo(), "AVIF"))
    assert not is_video(saved(photo(), "HEIF"))
    assert not is_animated(b"\0\0\0\x20ftypisom" + bytes(40))
