"""Images survive: upright, in their colors, with their transparency, in their format."""

import io
import struct
import zlib
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from media_factory import natural_image, psnr, real_files
from PIL import Image, ImageCms, ImageOps

from nst_ops.media.errors import EmptyFileError, MediaError, UnreadableImageError, UnsupportedMediaError
from nst_ops.media.formats import image_output, likely_output, media_kind, video_output
from nst_ops.media.images import decode_image, encode_image, fit_size, is_animated

ORIENTATION, ARTIST, DESCRIPTION = 0x0112, 0x013B, 0x010E


def saved(image: Image.Image, image_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def exif_of(data: bytes) -> Image.Exif:
    with Image.open(io.BytesIO(data)) as image:
        return image.getexif()


def with_exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION], exif[ARTIST] = orientation, "somebody"
    exif.get_ifd(0x8769)[0x9003] = "2024:01:02 03:04:05"
    return exif


# Orientation and EXIF.


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("image_format", ["PNG", "TIFF"])
def test_images_are_turned_upright_to_the_pixel(orientation, image_format):
    image = natural_image("coffee", 40, 30)
    data = saved(image, image_format, exif=with_exif(orientation))
    decoded = decode_image(data)
    tagged = image.copy()
    tagged.getexif()[ORIENTATION] = orientation
    upright = ImageOps.exif_transpose(tagged)
    assert np.array_equal(decoded.rgb_hwc, np.asarray(upright))
    assert decoded.source_size == upright.size


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_exif_is_kept_without_the_orientation(image_format):
    exif = with_exif(6).tobytes()
    decoded = decode_image(saved(natural_image("coffee", 40, 30), image_format, exif=exif))
    assert decoded.rgb_hwc.shape == (40, 30, 3)
    written = encode_image(decoded.rgb_hwc, None, image_format, 95, decoded.exif)
    exif = exif_of(written)
    assert exif[ARTIST] == "somebody"
    assert exif.get(ORIENTATION, 1) == 1
    assert exif.get_ifd(0x8769)[0x9003] == "2024:01:02 03:04:05"
    assert decode_image(written).rgb_hwc.shape == (40, 30, 3)


def dpi_of(data: bytes) -> tuple[float, float] | None:
    with Image.open(io.BytesIO(data)) as image:
        dpi = image.info.get("dpi")
        return dpi and (round(dpi[0]), round(dpi[1]))


@pytest.mark.parametrize("max_side", [None, 20])
@pytest.mark.parametrize("written", ["JPEG", "PNG", "TIFF", "BMP"])
@pytest.mark.parametrize("read", ["JPEG", "PNG", "TIFF", "BMP"])
def test_the_resolution_for_print_is_kept(read, written, max_side):
    decoded = decode_image(saved(natural_image("coffee", 40, 30), read, dpi=(300, 150)), max_side)
    assert dpi_of(encode_image(decoded.rgb_hwc, None, written, 95, decoded.exif, decoded.dpi)) == (300, 150)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "TIFF"])
def test_the_resolution_of_a_turned_image_turns_along(image_format):
    image = natural_image("coffee", 40, 30)
    decoded = decode_image(saved(image, image_format, exif=with_exif(6), dpi=(300, 150)))
    written = encode_image(decoded.rgb_hwc, None, image_format, 95, decoded.exif, decoded.dpi)
    assert dpi_of(written) == (150, 300)


@pytest.mark.parametrize("unit", [0, 1, 2])
def test_a_jpeg_keeps_its_density_in_inches_and_centimeters(unit):
    data = bytearray(saved(natural_image("coffee", 40, 30), "JPEG", dpi=(100, 100), exif=with_exif(1)))
    data[data.index(b"JFIF") + 7] = unit
    expected = {0: None, 1: (100, 100), 2: (254, 254)}[unit]
    decoded = decode_image(bytes(data))
    assert decoded.dpi == expected, "a file that does not say has none"
    assert encode_image(decoded.rgb_hwc, None, "JPEG", 95, decoded.exif, decoded.dpi)


@pytest.mark.parametrize("density", [0, 2**32 - 1])
def test_a_resolution_that_nobody_can_mean_costs_no_image(density):
    data = saved(natural_image("coffee", 40, 30), "PNG", dpi=(300, 300))
    place = data.index(b"pHYs")
    chunk = b"pHYs" + density.to_bytes(4) * 2 + b"\1"
    data = data[:place] + chunk + zlib.crc32(chunk).to_bytes(4) + data[place + 17 :]
    decoded = decode_image(data)
    assert decoded.dpi is None
    assert decoded.notes == ()


@pytest.mark.parametrize("mode", ["RGB", "L", "I;16", "CMYK", "1"])
def test_a_tiff_is_written_anew_whatever_its_own_layout_was(mode):
    gray = natural_image("coffee", 64, 48).convert("L")
    source = Image.fromarray(np.asarray(gray).astype(np.uint16) * 257) if mode == "I;16" else gray.convert(mode)
    data = saved(source, "TIFF", tiffinfo={ARTIST: "somebody", DESCRIPTION: "a cup"})
    decoded = decode_image(data, 32)
    with Image.open(io.BytesIO(encode_image(decoded.rgb_hwc, None, "TIFF", 95, decoded.exif))) as written:
        assert (written.mode, written.size) == ("RGB", (32, 24))
        assert np.array_equal(np.asarray(written), decoded.rgb_hwc)
        assert written.getexif()[ARTIST] == "somebody"


def test_exif_too_long_for_a_jpeg_is_dropped():
    exif = Image.Exif()
    exif[DESCRIPTION] = "x" * 70000
    decoded = decode_image(saved(natural_image("coffee", 40, 30), "PNG", exif=exif))
    written = encode_image(decoded.rgb_hwc, None, "JPEG", 95, decoded.exif)
    assert decode_image(written).rgb_hwc.shape == (30, 40, 3)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_broken_exif_block_is_passed_over():
    data = saved(natural_image("coffee", 40, 30), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f" + bytes(range(40)))
    decoded = decode_image(data)
    assert decoded.rgb_hwc.shape == (30, 40, 3)
    encode_image(decoded.rgb_hwc, None, "JPEG", 95, decoded.exif)


# Color.


def wide_gamut_profile() -> bytes:
    """sRGB's tone curve on primaries swapped about: red is where green was, as no mistake can hide."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    (count,) = struct.unpack(">I", profile[128:132])
    entries = {bytes(profile[132 + 12 * i : 136 + 12 * i]): 132 + 12 * i for i in range(count)}
    red, green = entries[b"rXYZ"], entries[b"gXYZ"]
    profile[red : red + 4], profile[green : green + 4] = b"gXYZ", b"rXYZ"
    offset, size = struct.unpack(">II", profile[entries[b"desc"] + 4 : entries[b"desc"] + 12])
    text = "Swapped".encode("utf-16-be")
    profile[offset : offset + size] = (
        b"mluc\0\0\0\0\0\0\0\1\0\0\0\x0cenUS" + struct.pack(">II", len(text), 28) + text
    ).ljust(size, b"\0")[:size]
    return bytes(profile)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_an_embedded_profile_is_converted_to_srgb(mode):
    source = natural_image("astronaut", 48, 48).convert(mode)
    source.info.clear()
    decoded = decode_image(saved(source, "PNG", icc_profile=wide_gamut_profile()))
    swapped = np.asarray(source.convert("RGB"))[..., [1, 0, 2]]
    assert psnr(decoded.rgb_hwc, swapped) > 40
    assert psnr(decoded.rgb_hwc, np.asarray(source.convert("RGB"))) < 25
    assert (decoded.alpha_hw is not None) == (mode == "RGBA")


def test_a_gray_profile_is_converted_too():
    xyz = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    source = natural_image("astronaut", 48, 48).convert("L")
    decoded = decode_image(saved(source, "JPEG", icc_profile=xyz.tobytes()))  # of another model: passed over
    assert psnr(decoded.rgb_hwc[..., 0], np.asarray(source)) > 30


@pytest.mark.parametrize("profile", [b"", b"no profile at all", wide_gamut_profile()[:200]])
def test_a_broken_profile_is_passed_over(profile):
    source = natural_image("astronaut", 48, 48)
    decoded = decode_image(saved(source, "PNG", icc_profile=profile or None))
    assert np.array_equal(decoded.rgb_hwc, np.asarray(source))


def test_the_output_is_plain_srgb():
    data = saved(natural_image("astronaut", 48, 48), "PNG", icc_profile=wide_gamut_profile())
    decoded = decode_image(data)
    with Image.open(io.BytesIO(encode_image(decoded.rgb_hwc, None, "PNG", 95, decoded.exif))) as written:
        assert "icc_profile" not in written.info


# Transparency.


def half_clear() -> Image.Image:
    image = natural_image("coffee", 40, 30).convert("RGBA")
    alpha = np.tile(np.linspace(0, 255, 40).astype(np.uint8), (30, 1))
    image.putalpha(Image.fromarray(alpha))
    return image


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("profile", [None, wide_gamut_profile()])
def test_alpha_is_kept_apart(mode, profile):
    if mode == "LA" and profile:
        profile = None
    source = half_clear().convert(mode)
    decoded = decode_image(saved(source, "PNG", icc_profile=profile))
    assert np.array_equal(decoded.alpha_hw, np.asarray(source.getchannel("A")))
    written = encode_image(decoded.rgb_hwc, decoded.alpha_hw, "PNG", 95)
    again = decode_image(written)
    assert np.array_equal(again.alpha_hw, decoded.alpha_hw)
    assert np.array_equal(again.rgb_hwc, decoded.rgb_hwc)


@pytest.mark.parametrize("mode", ["P", "RGB", "L", "1"])
@pytest.mark.parametrize("profile", [None, wide_gamut_profile()])
def test_a_transparent_color_becomes_alpha(mode, profile):
    image = Image.new("RGB", (40, 30), "white")
    image.paste((0, 0, 0), (0, 0, 20, 30))
    source = image.convert(mode)
    clear = {"P": source.getpixel((39, 0)), "RGB": (255, 255, 255), "L": 255, "1": 1}[mode]
    options = {"icc_profile": profile} if profile and mode in ("P", "RGB") else {}
    data = saved(source, "PNG", transparency=clear, **options)
    alpha = decode_image(data).alpha_hw
    assert alpha is not None
    assert alpha[0, 0] == 255
    assert alpha[0, 39] == 0


@given(st.booleans(), st.sampled_from(["a.jpg", "a.jpeg", "b/a.JPG", "a.png", "a.webp", "a.gif", "a.heic"]))
def test_only_what_its_format_cannot_hold_becomes_png(has_alpha, name):
    path, image_format = image_output(name, has_alpha=has_alpha)
    keeps_name = name.lower().endswith((".png", ".webp")) or (
        name.lower().endswith((".jpg", ".jpeg")) and not has_alpha
    )
    assert path == (name if keeps_name else name + ".png")
    assert image_format == ("PNG" if path.endswith(".png") else "WEBP" if path.endswith(".webp") else "JPEG")


def test_a_transparent_png_named_jpg_is_written_as_png():
    decoded = decode_image(saved(half_clear(), "PNG"))
    assert image_output("a.jpg", has_alpha=decoded.alpha_hw is not None) == ("a.jpg.png", "PNG")
    with pytest.raises(ValueError, match="no alpha"):
        encode_image(decoded.rgb_hwc, decoded.alpha_hw, "JPEG", 95)


# Depths and modes.


@pytest.mark.parametrize("image_format", ["PNG", "TIFF"])
@pytest.mark.parametrize("byte_order", ["<u2", ">u2"])
def test_16_bit_gray_is_scaled(image_format, byte_order):
    ramp = np.linspace(0, 65535, 64 * 48).reshape(48, 64).astype(byte_order)
    if byte_order == ">u2" and image_format == "TIFF":
        source = Image.frombytes("I;16B", (64, 48), ramp.tobytes())
    else:
        source = Image.fromarray(ramp.astype("<u2"))
    decoded = decode_image(saved(source, image_format))
    expected = np.linspace(0, 255, 64 * 48).reshape(48, 64)
    assert np.abs(decoded.rgb_hwc - expected[..., None]).max() <= 1
    assert decoded.rgb_hwc.max() == 255


def test_a_dark_16_bit_image_stays_dark():
    source = Image.fromarray(np.full((16, 16), 200, np.uint16))
    assert decode_image(saved(source, "PNG")).rgb_hwc.max() == 0


def test_floats_from_0_to_1_are_scaled_and_others_refused():
    ramp = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    decoded = decode_image(saved(Image.fromarray(ramp), "TIFF"))
    assert np.array_equal(decoded.rgb_hwc[..., 0].ravel(), np.arange(256))
    for bad in (ramp * 2, ramp - 1, ramp * np.nan):
        with pytest.raises(UnsupportedMediaError, match=r"outside \[0, 1\]"):
            decode_image(saved(Image.fromarray(bad), "TIFF"))


@pytest.mark.parametrize(
    ("mode", "image_format", "bound"),
    [
        ("1", "PNG", 99),
        ("L", "PNG", 99),
        ("P", "PNG", 99),
        ("P", "GIF", 99),
        ("CMYK", "JPEG", 30),
        ("CMYK", "TIFF", 99),
        ("YCbCr", "TIFF", 35),
        ("LAB", "TIFF", 30),
        ("L", "JPEG", 30),
        ("RGB", "BMP", 99),
    ],
)
def test_every_mode_becomes_rgb(mode, image_format, bound):
    image = natural_image("chelsea", 64, 48)
    source = image.convert(mode)
    if mode == "LAB":
        lab = ImageCms.createProfile("LAB")
        source = ImageCms.profileToProfile(image, ImageCms.createProfile("sRGB"), lab, outputMode="LAB")
    decoded = decode_image(saved(source, image_format))
    expected = image if mode == "LAB" else source.convert("RGB")
    assert decoded.alpha_hw is None
    assert psnr(decoded.rgb_hwc, np.asarray(expected)) > bound
    assert decoded.rgb_hwc.flags["C_CONTIGUOUS"]


# Size.


@given(st.integers(1, 20000), st.integers(1, 20000), st.none() | st.integers(16, 5000))
def test_images_are_never_enlarged_and_keep_their_aspect(width, height, max_side):
    new_width, new_height = fit_size((width, height), max_side)
    assert 1 <= new_width <= width
    assert 1 <= new_height <= height
    if max_side is None or max(width, height) <= max_side:
        assert (new_width, new_height) == (width, height)
    else:
        assert max(new_width, new_height) == max_side
        exact = Fraction(min(width, height) * max_side, max(width, height))
        assert abs(min(new_width, new_height) - exact) <= Fraction(1, 2) or min(new_width, new_height) == 1


@pytest.mark.parametrize(("size", "max_side"), [((800, 600), 64), ((600, 800), 64), ((50, 40), 64), ((64, 9), 64)])
@pytest.mark.parametrize("image_format", ["JPEG", "PNG"])
def test_max_side_is_the_longer_side_of_the_result(size, max_side, image_format):
    source = natural_image("rocket", *size)
    decoded = decode_image(saved(source, image_format, quality=95), max_side)
    assert decoded.rgb_hwc.shape[1::-1] == fit_size(size, max_side)
    assert decoded.source_size == size
    expected = source.resize(fit_size(size, max_side), Image.Resampling.LANCZOS)
    assert psnr(decoded.rgb_hwc, np.asarray(expected)) > 30


def test_a_turned_image_is_measured_upright():
    decoded = decode_image(saved(natural_image("rocket", 800, 600), "JPEG", exif=with_exif(6)), 64)
    assert decoded.source_size == (600, 800)
    assert decoded.rgb_hwc.shape == (64, 48, 3)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "AVIF"])
def test_one_pixel_is_an_image(image_format):
    decoded = decode_image(saved(Image.new("RGB", (1, 1), (200, 100, 50)), image_format), 16)
    assert decoded.rgb_hwc.shape == (1, 1, 3)
    assert np.abs(decoded.rgb_hwc[0, 0].astype(int) - (200, 100, 50)).max() < 12
    assert encode_image(decoded.rgb_hwc, None, image_format, 95)


# Writing.


@pytest.mark.parametrize(
    ("image_format", "bound"), [("JPEG", 33), ("PNG", 200), ("WEBP", 28), ("TIFF", 200), ("BMP", 200), ("AVIF", 30)]
)
@pytest.mark.parametrize("has_alpha", [False, True])
def test_what_is_written_can_be_read_again(image_format, bound, has_alpha):
    source = half_clear()
    rgb, alpha = np.asarray(source.convert("RGB")), np.asarray(source.getchannel("A"))
    if has_alpha and image_format in ("JPEG", "BMP"):
        pytest.skip("holds no alpha")
    data = encode_image(rgb, alpha if has_alpha else None, image_format, 95)
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == image_format
    again = decode_image(data)
    assert (again.alpha_hw is not None) == has_alpha
    visible = alpha > 40 if has_alpha else np.ones_like(alpha, bool)  # lossy formats drop what nobody sees
    assert psnr(again.rgb_hwc[visible], rgb[visible]) >= bound
    if has_alpha:
        assert psnr(again.alpha_hw, alpha) > 35


def test_quality_is_heeded_and_good_jpegs_keep_chroma():
    rgb = np.asarray(natural_image("coffee", 80, 60))
    sizes = [len(encode_image(rgb, None, "JPEG", quality)) for quality in (50, 80, 95)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[2] / 2
    red_on_green = np.zeros((60, 80, 3), np.uint8)
    red_on_green[:, ::2, 0], red_on_green[:, 1::2, 1] = 255, 255
    again = decode_image(encode_image(red_on_green, None, "JPEG", 95)).rgb_hwc
    assert psnr(again, red_on_green) > 25


# What is no image.


def test_zero_bytes_are_refused():
    with pytest.raises(EmptyFileError, match="0 bytes"):
        decode_image(b"")


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "AVIF", "GIF"])
def test_a_truncated_file_is_refused(image_format):
    whole = saved(natural_image("coffee", 200, 150), image_format)
    for keep in (0.1, 0.5, 0.9):
        with pytest.raises(UnreadableImageError):
            decode_image(whole[: int(len(whole) * keep)])


@pytest.mark.parametrize("data", [b"just words, named .jpg\n" * 10, bytes(1000), b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"])
def test_a_file_that_is_no_image_is_refused(data):
    with pytest.raises(UnreadableImageError):
        decode_image(data)


def test_a_decompression_bomb_is_refused_before_it_goes_off():
    header = bytearray(saved(Image.new("1", (8, 8)), "BMP"))
    header[18:26] = struct.pack("<ii", 30000, 30000)
    with pytest.raises(UnsupportedMediaError, match="shrink it"):
        decode_image(bytes(header))


def test_the_first_image_of_a_multi_picture_jpeg_is_taken():
    left, right = natural_image("coffee", 80, 60), natural_image("chelsea", 80, 60)
    data = saved(left, "MPO", save_all=True, append_images=[right])
    assert not is_animated(data)
    assert psnr(decode_image(data).rgb_hwc, np.asarray(left)) > 28
    assert decode_image(data, 40).rgb_hwc.shape == (30, 40, 3)


def test_several_pages_are_refused_by_their_number():
    pages = [natural_image(name, 16, 16) for name in ("coffee", "chelsea", "rocket")]
    with pytest.raises(UnsupportedMediaError, match="3 pages"):
        decode_image(saved(pages[0], "TIFF", save_all=True, append_images=pages[1:]))


@pytest.mark.parametrize("image_format", ["GIF", "WEBP", "PNG", "AVIF"])
def test_only_what_moves_is_animated(image_format):
    still, other = natural_image("coffee", 16, 16), natural_image("chelsea", 16, 16)
    assert not is_animated(saved(still, image_format))
    assert is_animated(saved(still, image_format, save_all=True, append_images=[other], duration=100))


@pytest.mark.parametrize("data", [b"", b"words", saved(Image.new("L", (9, 9)), "PNG")[:20]])
def test_asking_whether_a_bad_file_is_animated_does_no_harm(data):
    assert not is_animated(data)


# Names.


@given(st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=20))
def test_outputs_of_different_sources_differ(stem):
    names = [stem + extension for extension in (".jpg", ".JPG", ".gif", ".webm", ".mkv", ".mp4", ".avi", ".png")]
    outputs = [likely_output(name) for name in names]
    assert len(set(outputs)) == len(names)
    assert all(output.startswith(name) for output, name in zip(outputs, names, strict=True))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.JPeG", "image"),
        ("a.b/c.MOV", "video"),
        (".jpg", "other"),
        ("a.txt", "other"),
        ("jpg", "other"),
        ("a.gif", "image"),
        ("a.pcx", "image"),
    ],
)
def test_the_extension_says_the_kind(name, kind):
    assert media_kind(name) == kind


def test_videos_keep_their_container_or_become_matroska():
    assert video_output("a.mp4") == ("a.mp4", "mp4")
    assert video_output("a.M4V") == ("a.M4V", "mp4")
    assert video_output("a.mp4", fits=False) == ("a.mp4.mkv", "matroska")
    assert video_output("a.webm") == ("a.webm.mkv", "matroska")
    assert video_output("a.gif", has_sound=False) == ("a.gif.mp4", "mp4")


# Real images.


@pytest.mark.parametrize("path", real_files("images_odd"))
def test_real_odd_images_are_decoded_or_refused(path):
    data = path.read_bytes()
    if path.name == "iss634.webp":
        assert is_animated(data)
        return
    if path.name in ("broken.png", "truncated_image.png"):
        with pytest.raises(MediaError):
            decode_image(data)
        return
    decoded = decode_image(data, 200)
    assert max(decoded.rgb_hwc.shape) <= 200
    assert bool(decoded.notes) == (path.name == "truncated_jpeg.jpg"), "of its end mark it has the first half"
    assert (decoded.alpha_hw is not None) == path.name.startswith("transparent")
    name, image_format = image_output(path.name, has_alpha=decoded.alpha_hw is not None)
    again = decode_image(encode_image(decoded.rgb_hwc, decoded.alpha_hw, image_format, 95, decoded.exif))
    assert again.rgb_hwc.shape == decoded.rgb_hwc.shape
    assert psnr(again.rgb_hwc, decoded.rgb_hwc) > 28 or decoded.alpha_hw is not None
    with Image.open(path) as source:
        turned = source.getexif().get(ORIENTATION, 1) >= 5
        assert decoded.source_size == (source.size[::-1] if turned else source.size)
    assert name.startswith(path.name)
