"""Colors are taken by what they are, not by what they are called, and end as sRGB."""

import io
import struct
import zlib

import numpy as np
import pytest
from media_factory import natural_image, psnr
from PIL import Image, ImageCms

from nst_ops.media import profiles
from nst_ops.media.images import decode_image
from nst_ops.media.video.reader import AnimationReader

MAKE, EXIF, INTEROP, COLOR_SPACE = 0x010F, 0x8769, 0xA005, 0xA001
SRGB_ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
LINEAR = profiles.of_code_points(1, 8)


def saved(image: Image.Image, image_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def named(profile: bytes, name: str) -> bytes:
    """Put another name into a profile of version 2, behind its end."""
    content = b"desc" + struct.pack(">4xI", len(name) + 1) + name.encode() + bytes(80)
    content += bytes(-len(content) % 4)
    place = profile.index(b"desc", 128)
    entry = struct.pack(">4sII", b"desc", len(profile), len(content))
    changed = profile[:place] + entry + profile[place + 12 :] + content
    return struct.pack(">I", len(changed)) + changed[4:]


def png(pixel: tuple[int, ...], *chunks: tuple[bytes, bytes]) -> bytes:
    """One color as a PNG, with chunks before it."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0))
    rows = (b"\0" + bytes(pixel) * 8) * 8
    middle = b"".join(chunk(*each) for each in chunks)
    return b"\x89PNG\r\n\x1a\n" + header + middle + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def color(data: bytes) -> tuple[int, ...]:
    return tuple(map(int, decode_image(data).rgb_hwc[0, 0]))


# ICC by content.


@pytest.mark.parametrize("name", ["GIMP built-in Linear sRGB", "sRGB-elle-V2-g10.icc", "some other name"])
def test_a_linear_profile_is_converted_whatever_its_name(name):
    image = Image.new("RGB", (8, 8), (128, 128, 128))
    for image_format, options in (("PNG", {}), ("JPEG", {}), ("TIFF", {}), ("WEBP", {"lossless": True})):
        data = saved(image, image_format, icc_profile=named(LINEAR, name), **options)
        assert color(data) == pytest.approx((188, 188, 188), abs=2)


@pytest.mark.parametrize("profile", [SRGB_ICC, named(profiles.of_code_points(1, 13), "Display P3")])
def test_srgb_by_any_name_leaves_the_pixels_alone(profile):
    image = natural_image("coffee", 40, 30)
    assert np.array_equal(decode_image(saved(image, "PNG", icc_profile=profile)).rgb_hwc, np.asarray(image))


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_a_gray_image_takes_the_curve_of_a_profile_of_rgb(mode):
    data = saved(Image.new("L", (8, 8), 128).convert(mode), "PNG", icc_profile=LINEAR)
    assert color(data) == pytest.approx((188, 188, 188), abs=2)
    assert (decode_image(data).alpha_hw is not None) == (mode == "LA")


def gray_profile(gamma: int) -> bytes:
    """A profile of gray with a power curve."""
    curve = b"curv" + struct.pack(">4xIH2x", 1, gamma * 256)
    white = b"XYZ " + struct.pack(">4x3i", 63190, 65536, 54061)
    tags = struct.pack(">I4sII4sII", 2, b"kTRC", 156, len(curve), b"wtpt", 156 + len(curve), len(white))
    size = 156 + len(curve) + len(white)
    head = struct.pack(
        ">I4xI4s4s4s12x4s28x3i48x", size, 0x02400000, b"mntr", b"GRAY", b"XYZ ", b"acsp", 63190, 65536, 54061
    )
    return head + tags + curve + white


@pytest.mark.parametrize("depth", [8, 16])
def test_a_gray_profile_is_converted_at_the_depth_of_its_image(depth):
    levels = np.arange(256) if depth == 8 else np.arange(0, 65536, 16)
    gray = np.tile(levels, (4, 1)).astype(np.uint8 if depth == 8 else np.uint16)
    decoded = decode_image(saved(Image.fromarray(gray), "PNG", icc_profile=gray_profile(1)))
    light = levels / levels.max()
    expected = 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    assert np.abs(decoded.rgb_hwc[0, :, 0] - expected).max() <= 2
    assert len(np.unique(decoded.rgb_hwc)) > (180 if depth == 8 else 240)


def test_a_gray_profile_on_a_color_image_is_passed_over():
    image = natural_image("coffee", 40, 30)
    assert np.array_equal(decode_image(saved(image, "PNG", icc_profile=gray_profile(1))).rgb_hwc, np.asarray(image))


@pytest.mark.parametrize("cut", [0, 10, 128, 200, 400])
def test_a_profile_that_is_cut_off_is_passed_over(cut):
    image = natural_image("coffee", 40, 30)
    data = saved(image, "PNG", icc_profile=LINEAR[:cut] or b"\0")
    assert decode_image(data).rgb_hwc.shape == (30, 40, 3)


def test_cmyk_without_a_profile_and_with_one_of_rgb_are_the_same():
    image = natural_image("coffee", 40, 30).convert("CMYK")
    plain = decode_image(saved(image, "TIFF")).rgb_hwc
    assert np.array_equal(plain, decode_image(saved(image, "TIFF", icc_profile=LINEAR)).rgb_hwc)


# What else says a color space.


def adobe_exif(color_space: int = 0xFFFF, index: str = "R03") -> bytes:
    exif = Image.Exif()
    exif[MAKE] = "Nikon"
    exif.get_ifd(EXIF)[COLOR_SPACE] = color_space
    exif.get_ifd(EXIF)[INTEROP] = {1: index} if index else {}
    return exif.tobytes()


@pytest.mark.parametrize(
    ("color_space", "index", "is_adobe"), [(0xFFFF, "R03", True), (2, "", True), (1, "R98", False), (0xFFFF, "", False)]
)
def test_adobe_rgb_is_known_by_the_exif_of_a_camera(color_space, index, is_adobe):
    data = saved(Image.new("RGB", (16, 16), (100, 200, 100)), "JPEG", quality=100, exif=adobe_exif(color_space, index))
    red, green, blue = color(data)
    if is_adobe:
        assert red < 40 < 90 < blue
    else:
        assert (red, green, blue) == pytest.approx((100, 200, 100), abs=2)


def test_the_exif_that_is_written_says_srgb():
    data = saved(Image.new("RGB", (16, 16), (100, 200, 100)), "JPEG", exif=adobe_exif())
    exif = Image.Exif()
    exif.load(decode_image(data).exif)
    assert exif[MAKE] == "Nikon"
    assert exif.get_ifd(EXIF)[COLOR_SPACE] == 1
    assert str(exif.get_ifd(INTEROP)[1]).startswith("R98")


GAMMA_1, GAMMA_22 = (b"gAMA", struct.pack(">I", 100_000)), (b"gAMA", struct.pack(">I", 45_455))
WIDE = (b"cHRM", struct.pack(">8I", 31270, 32900, 70800, 29200, 17000, 79700, 13100, 4600))


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ([GAMMA_1], (188, 188, 188)),
        ([GAMMA_22], (128, 128, 128)),
        ([GAMMA_1, (b"sRGB", b"\0")], (128, 128, 128)),
        ([(b"gAMA", struct.pack(">I", 0))], (128, 128, 128)),
        ([(b"cICP", bytes([1, 13, 0, 1]))], (128, 128, 128)),
        ([(b"cICP", bytes([1, 8, 0, 1]))], (188, 188, 188)),
        ([(b"cICP", bytes([1, 8, 0, 1])), GAMMA_22], (188, 188, 188)),
        ([(b"cICP", bytes([2, 2, 0, 1]))], (128, 128, 128)),
    ],
)
def test_a_png_says_its_curve_without_a_profile(chunks, expected):
    assert color(png((128, 128, 128), *chunks)) == pytest.approx(expected, abs=2)


def test_a_png_says_its_primaries_without_a_profile():
    red, green, blue = color(png((100, 180, 100), GAMMA_22, WIDE))
    assert red < 60 < 180 < green
    assert color(png((100, 180, 100), (b"cICP", bytes([9, 13, 0, 1])))) == pytest.approx((red, green, blue), abs=3)
    assert color(png((100, 180, 100), GAMMA_22, (b"cHRM", bytes(32)))) == (100, 180, 100)


@pytest.mark.parametrize("transfer", [16, 18])
def test_hdr_is_pressed_into_srgb(transfer):
    """Graphics white, 203 nits, is bright; what is brighter keeps its order; black is black."""
    white = {16: 148, 18: 191}[transfer]
    levels = [color(png((level,) * 3, (b"cICP", bytes([9, transfer, 0, 1]))))[0] for level in (0, 60, white, 230, 255)]
    assert levels[0] == 0
    assert levels == sorted(levels)
    assert 215 <= levels[2] <= 245 < levels[-1]


@pytest.mark.parametrize("image_format", ["AVIF", "HEIF"])
def test_code_points_of_heif_and_avif_count(image_format):
    import pillow_heif

    pillow_heif.register_heif_opener()
    data = saved(Image.new("RGB", (64, 64), (100, 180, 100)), image_format, quality=100)
    place = data.index(b"colrnclx") + 8
    wide = data[:place] + struct.pack(">HH", 12, 13) + data[place + 4 :]
    usual = data[:place] + struct.pack(">HH", 1, 13) + data[place + 4 :]
    assert color(usual) == pytest.approx((100, 180, 100), abs=4)
    assert color(wide)[0] < color(usual)[0] - 15


def test_display_p3_comes_out_as_srgb_shows_it():
    p3 = profiles.of_code_points(12, 13)
    image = natural_image("coffee", 40, 30)
    shown = ImageCms.profileToProfile(image, ImageCms.createProfile("sRGB"), ImageCms.ImageCmsProfile(io.BytesIO(p3)))
    decoded = decode_image(saved(shown, "PNG", icc_profile=p3))
    assert psnr(decoded.rgb_hwc, np.asarray(image)) > 40


@pytest.mark.parametrize("image_format", ["PNG", "WEBP", "AVIF"])
def test_frames_of_an_animation_are_converted_too(image_format, tmp_path):
    frames = [Image.new("RGB", (32, 32), (128, 128, level)) for level in (128, 120, 110)]
    options = {"lossless": True} if image_format == "WEBP" else {}
    data = saved(frames[0], image_format, save_all=True, append_images=frames[1:], icc_profile=LINEAR, **options)
    (tmp_path / "a").write_bytes(data)
    with AnimationReader(str(tmp_path / "a")) as reader:
        shown = [tuple(map(int, frame.rgb_hwc[0, 0])) for frame in reader.frames()]
    assert len(shown) == 3
    assert shown[0] == pytest.approx((188, 188, 188), abs=4)
