import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vrestore.errors import UnsupportedMediaError
from vrestore.video.colour import CHROMA_SITES, YuvRule, default_matrix, downsample, rgb_to_yuv, upsample, yuv_rule
from vrestore.video.colour import yuv_to_rgb as to_rgb
from vrestore.video.info import ColorTags
from vrestore.video.planes import frame_to_rgb, pixel_layout, readable_format, rgb_to_frame

RULES = [yuv_rule(ColorTags(matrix=m, range=r), 48, 64) for m in (1, 5, 7, 9) for r in (1, 2)]


def one_pixel(rgb, depth, rule):
    planes = rgb_to_yuv(np.array(rgb, np.float32).reshape(3, 1, 1), depth, (1, 1), rule)
    return tuple(float(plane[0, 0]) for plane in planes)


@pytest.mark.parametrize(
    ("matrix", "full", "depth", "rgb", "codes"),
    [
        (6, False, 8, (1, 1, 1), (235, 128, 128)),
        (6, False, 8, (0, 0, 0), (16, 128, 128)),
        (6, False, 8, (1, 0, 0), (81, 90, 240)),
        (6, False, 8, (0, 0, 1), (41, 240, 110)),
        (1, False, 8, (1, 0, 0), (63, 102, 240)),
        (1, False, 8, (0, 1, 0), (173, 42, 26)),
        (9, False, 10, (1, 1, 1), (940, 512, 512)),
        (9, False, 10, (1, 0, 0), (294, 387, 960)),
        (6, True, 8, (1, 1, 1), (255, 128, 128)),
        (6, True, 8, (1, 0, 0), (76, 85, 255)),
    ],
)
def test_colours_of_the_standards(matrix, full, depth, rgb, codes):
    """Table values of 100 % bars (BT.601, BT.709, BT.2020, JFIF)."""
    rule = yuv_rule(ColorTags(matrix=matrix, range=2 if full else 1), 48, 64)
    got = [min(round(value), 2**depth - 1) for value in one_pixel(rgb, depth, rule)]
    assert got == pytest.approx(codes, abs=0.51)


@given(
    rule=st.sampled_from(RULES),
    depth=st.sampled_from([8, 10, 12, 16]),
    rgb=st.tuples(*[st.floats(0, 1, width=32)] * 3),
)
@settings(max_examples=60)
def test_there_and_back_is_exact_but_for_rounding(rule, depth, rgb):
    codes = [np.array([[round(value)]]).clip(0, 2**depth - 1) for value in one_pixel(rgb, depth, rule)]
    dtype = np.uint8 if depth == 8 else np.uint16
    back = to_rgb(*(code.astype(dtype) for code in codes), depth, rule)
    # half a code of luma, and half a code (a whole one where full range clips 2^depth) of the larger chroma factor
    limit = (0.5 / 219 + 2 * 0.94 * 1.0 / 224) * 2.0 ** (8 - depth)
    assert np.abs(back[:, 0, 0] - np.array(rgb, np.float32)).max() <= limit + 1e-6


@given(y=st.integers(60, 180), u=st.integers(110, 145), v=st.integers(110, 145), rule=st.sampled_from(RULES))
@settings(max_examples=60)
def test_codes_inside_the_gamut_come_back_unchanged(y, u, v, rule):
    planes = [np.full((2, 2), value, np.uint8) for value in (y, u, v)]
    back = rgb_to_yuv(to_rgb(*planes, 8, rule), 8, (1, 1), rule)
    assert [int(np.rint(plane[0, 0])) for plane in back] == [y, u, v]


def test_untagged_video_is_601_below_720_lines_and_709_from_there():
    assert default_matrix(576, 720) == default_matrix(719, 1280) == 6
    assert default_matrix(720, 1280) == default_matrix(1280, 720) == 1
    assert yuv_rule(ColorTags(), 480, 640) == yuv_rule(ColorTags(matrix=6, range=1), 480, 640)
    assert yuv_rule(ColorTags(), 1080, 1920) == yuv_rule(ColorTags(matrix=1, range=1), 480, 640)


def test_constant_luminance_is_refused():
    with pytest.raises(UnsupportedMediaError, match="matrix 10"):
        yuv_rule(ColorTags(matrix=10), 480, 640)


@given(
    factor=st.sampled_from([2, 4]),
    site=st.sampled_from([0.0, 0.5, 1.0]),
    axis=st.sampled_from([0, 1]),
    size=st.integers(33, 50),
)
@settings(max_examples=40)
def test_chroma_stays_where_it_is(factor, site, axis, size):
    """A ramp is the same ramp at either density, away from the borders."""
    positions = np.arange(size, dtype=np.float32)
    fine = np.tile(positions, (3, 1)) if axis else np.tile(positions[:, None], (1, 3))
    coarse = downsample(fine, axis, factor, site)
    expected = factor * np.arange(-(-size // factor)) + site * (factor - 1)
    line = coarse[0] if axis else coarse[:, 0]
    inside = slice(2, -3)
    np.testing.assert_allclose(line[inside], expected[inside], atol=1e-4)
    exact = np.tile(expected.astype(np.float32), (3, 1)) if axis else np.tile(expected.astype(np.float32)[:, None], 3)
    back = upsample(exact, axis, factor, site, size)
    assert back.shape == fine.shape
    line = back[0] if axis else back[:, 0]
    margin = slice(2 * factor, -3 * factor)
    np.testing.assert_allclose(line[margin], positions[margin], atol=1e-4)


@given(
    location=st.sampled_from(sorted(CHROMA_SITES)),
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    pix_fmt=st.sampled_from(["yuv420p", "yuv422p", "yuv411p", "yuv410p", "yuv420p10le", "yuv440p"]),
)
@settings(max_examples=60)
def test_one_colour_stays_one_colour(location, size, pix_fmt):
    rule = yuv_rule(ColorTags(matrix=6, range=1, chroma_location=location), *size)
    rgb = np.broadcast_to(np.array([0.3, 0.5, 0.6], np.float32)[:, None, None], (3, *size)).copy()
    back = frame_to_rgb(rgb_to_frame(rgb, pix_fmt, rule, dither=False), rule)
    assert back.shape == rgb.shape
    assert np.abs(back - rgb).max() < (0.002 if pix_fmt.endswith("10le") else 0.008)


@pytest.mark.parametrize(
    "pix_fmt",
    ["rgb24", "bgr24", "bgr0", "rgb0", "0rgb", "0bgr", "rgba", "argb", "gbrp", "gbrp10le", "gbrp16le", "rgb48le"],
)
@pytest.mark.parametrize("dither", [False, True])
def test_rgb_formats_pass_bit_exact(pix_fmt, dither):
    layout = pixel_layout(pix_fmt)
    codes = np.random.default_rng(1).integers(0, 2**layout.depth, (3, 5, 7))
    rgb = (codes / (2**layout.depth - 1)).astype(np.float32)
    rule = YuvRule(0.299, 0.114, False)
    frame = rgb_to_frame(rgb, pix_fmt, rule, dither=dither)
    back = frame_to_rgb(frame, rule)
    np.testing.assert_array_equal(np.rint(back.astype(np.float64) * (2**layout.depth - 1)), codes)
    if layout.depth == 8 and pix_fmt != "0bgr":  # and libav sees the same picture
        np.testing.assert_array_equal(frame.reformat(format="rgb24").to_ndarray().transpose(2, 0, 1), codes)


@pytest.mark.parametrize(("pix_fmt", "same"), [("nv12", "yuv420p"), ("yuyv422", "yuv422p"), ("p010le", "yuv420p10le")])
def test_other_packings_hold_the_same_values(tools, pix_fmt, same):
    rule = yuv_rule(ColorTags(matrix=1, range=1), 48, 64)
    frame = av.VideoFrame(64, 48, same)
    tools.fill(frame, tools.pattern(tools.Spec(pix_fmt=same), 3))
    np.testing.assert_array_equal(frame_to_rgb(frame.reformat(format=pix_fmt), rule), frame_to_rgb(frame, rule))


def test_gray_and_big_endian_and_palettes_are_read():
    rule = YuvRule(0.299, 0.114, False)
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    gray = av.VideoFrame.from_ndarray(ramp, format="gray")
    np.testing.assert_array_equal(frame_to_rgb(gray, rule), np.tile(ramp / np.float32(255), (3, 1, 1)))
    deep = av.VideoFrame.from_ndarray(ramp.astype(np.uint16) * 257, format="gray16le")
    np.testing.assert_allclose(
        frame_to_rgb(deep.reformat(format="gray16be"), rule), frame_to_rgb(gray, rule), atol=1e-6
    )
    assert readable_format("pal8") == "rgb24"


@pytest.mark.parametrize("pix_fmt", ["bayer_rggb8", "gbrpf32le", "xyz12le"])
def test_exotic_formats_are_refused_with_advice(pix_fmt):
    with pytest.raises(UnsupportedMediaError, match=f"{pix_fmt}.*convert"):
        readable_format(pix_fmt)


@pytest.mark.parametrize(("matrix", "range_"), [(1, 1), (6, 1), (6, 2), (9, 1)])
def test_libav_reads_the_same_colours(tools, matrix, range_):
    """swscale, told everything, agrees to its own rounding on smooth pictures."""
    rule = yuv_rule(ColorTags(matrix=matrix, range=range_), 48, 64)
    y, x = np.mgrid[0:48, 0:64] / np.float32(64)
    rgb = np.stack([0.2 + 0.5 * x, 0.7 - 0.4 * y, 0.3 + 0.2 * (x + y)]).astype(np.float32)
    frame = rgb_to_frame(rgb, "yuv444p", rule, dither=False)
    frame.color_range, frame.colorspace = range_, matrix
    seen = frame.reformat(format="rgb24", src_colorspace=matrix, src_color_range=range_, dst_color_range=2)
    assert np.abs(seen.to_ndarray().transpose(2, 0, 1) / 255 - rgb).max() < 2.1 / 255


def test_dither_keeps_the_mean_and_every_exact_value():
    rule = YuvRule(0.299, 0.114, False)
    fraction = np.full((3, 32, 32), 100.3 / 255, np.float32)
    codes = np.asarray(rgb_to_frame(fraction, "gbrp", rule, dither=True).to_ndarray(), np.float64)
    assert set(np.unique(codes)) == {100.0, 101.0}
    assert codes.mean() == pytest.approx(100.3, abs=0.02)
    plain = np.asarray(rgb_to_frame(fraction, "gbrp", rule, dither=False).to_ndarray())
    assert set(np.unique(plain)) == {100}


def test_what_lies_outside_is_clipped():
    rule = YuvRule(0.299, 0.114, False)
    rgb = np.array([-0.5, 1.5, 0.5], np.float32).reshape(3, 1, 1)
    frame = rgb_to_frame(rgb, "rgb24", rule, dither=False)
    assert frame.to_ndarray()[0, 0].tolist() == [0, 255, 128]
