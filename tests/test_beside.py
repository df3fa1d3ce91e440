"""What goes beside the picture: alpha, and what lies outside of [0, 1]."""

import av
import numpy as np
import pytest
import torch

from vrestore.degradation import Resize
from vrestore.video import Beside, Keep, open_reader, probe
from vrestore.video.colour import YuvRule
from vrestore.video.planes import parted
from vrestore.walk import resized

RULE = YuvRule(0.2126, 0.0722, full=False)


def test_alpha_is_resized_like_a_picture():
    alpha = np.random.default_rng(0).random((12, 16), np.float32)
    found = resized(Beside(alpha), (48, 64)).alpha
    expected = Resize((12, 16), (48, 64)).apply(torch.from_numpy(alpha)).clamp(0, 1)
    np.testing.assert_array_equal(found, expected.numpy())
    assert resized(Beside(alpha), (12, 16)).alpha is alpha
    assert resized(Beside(), (12, 16)) is None


def test_a_highlight_keeps_its_light_and_darkens_nothing_around_it():
    outside = np.zeros((3, 12, 16), np.float32)
    outside[:, 6, 8], outside[:, 1, 1] = 50, -2
    found = resized(Beside(outside=outside), (24, 32)).outside
    assert found[:, 10:16, 14:20].max() > 30
    assert found[:, 8:].min() == 0  # a cubic alone would go down to -5
    assert found[:, :6, :8].max() == 0
    assert found.min() < -1


@pytest.mark.parametrize(
    ("keep", "expected"), [("none", None), ("white", [0.3, 0, 0]), ("luma", [0.3, 0, -0.1]), ("all", [0.3, 0, -0.1])]
)
def test_gray_beyond_white_and_black(keep, expected):
    gray = np.float32([1.3, 0.5, -0.1])
    rgb, outside = parted(np.repeat(gray[None, None], 3, axis=0).copy(), RULE, keep)
    np.testing.assert_allclose(rgb[0, 0], [1, 0.5, 0], atol=1e-6)
    if expected is None:
        assert outside is None
    else:
        np.testing.assert_allclose(outside[1, 0], expected, atol=1e-6)


def test_a_colour_outside_of_the_gamut():
    red = np.float32([1.2, -0.1, 0.2]).reshape(3, 1, 1)
    rgb, outside = parted(red.copy(), RULE, "luma")
    assert outside is None  # its luma is an ordinary one
    rgb, outside = parted(red.copy(), RULE, "all")
    np.testing.assert_allclose((rgb + outside)[:, 0, 0], red[:, 0, 0], atol=1e-6)


@pytest.mark.parametrize(("codec", "suffix"), [("libvpx-vp9", "webm"), ("libvpx", "webm"), ("libvpx-vp9", "mkv")])
def test_the_alpha_of_vp8_and_vp9_is_read(tmp_path, codec, suffix):
    """A ramp of opacity that moves; also from a frame in the middle on."""
    path = tmp_path / f"a.{suffix}"
    with av.open(str(path), "w") as container:
        options = {"crf": "4", "b": "8M", "g": "8", "auto-alt-ref": "0"}
        stream = container.add_stream(codec, rate=25, width=64, height=48, pix_fmt="yuva420p", options=options)
        for n in range(48):
            frame = av.VideoFrame(64, 48, "yuva420p")
            for plane in frame.planes:
                np.frombuffer(memoryview(plane), np.uint8)[:] = 100
            np.frombuffer(memoryview(frame.planes[3]), np.uint8).reshape(48, -1)[:, :64] = np.arange(64) * 3 + n
            frame.pts = n
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    info = probe(path)
    assert (info.pix_fmt, info.frames) == ("yuva420p", 48)
    for start in (0, 40):
        with open_reader(info, keep=Keep(alpha=True)) as reader:
            frames = list(reader.frames(start))
        assert [frame.index for frame in frames] == list(range(start, 48))
        for frame in frames:
            expected = (np.arange(64) * 3 + frame.index) / 255
            assert np.abs(frame.beside.alpha - expected).max() < 0.03
