"""What comes out is what came in: codecs, containers and EXR, by the real engine with a head that changes nothing."""

from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from vrestore.errors import ConfigError
from vrestore.video import probe
from vrestore.video.exr import read_exr


@pytest.mark.parametrize("size", [(1, 1), (63, 127), (2, 400)])
def test_ffv1_holds_any_size(deliver, tmp_path, size, noise_clip, assert_same_frames):
    source = noise_clip(tmp_path / "in.nut", "yuv444p", size=size, codec="rawvideo")
    deliver(source, tmp_path / "out.mkv")
    assert_same_frames(source, tmp_path / "out.mkv")


@pytest.mark.parametrize(
    "pix_fmt",
    ["bgr0", "gbrp10le", "gbrp16le", "yuv420p", "yuv444p", "yuv422p10le", "yuv420p10le", "yuv420p16le", "yuv444p16le",
     "bgra", "yuva420p", "yuva444p10le", "gbrap16le"],
)  # fmt: skip
def test_ffv1_gives_every_code_back(deliver, tmp_path, pix_fmt, noise_clip, assert_same_frames):
    source = noise_clip(tmp_path / "in.mkv", pix_fmt)
    deliver(source, tmp_path / "out.mkv")
    assert_same_frames(source, tmp_path / "out.mkv")


def write_exr(path, samples, options):
    """``samples``: R, G, B (and alpha), by libav alone."""
    height, width = samples.shape[1:]
    pix_fmt = "gbrapf32le" if len(samples) == 4 else "gbrpf32le"
    frame = av.VideoFrame(width, height, pix_fmt)
    for plane, channel in zip(frame.planes, (1, 2, 0, 3), strict=False):
        np.frombuffer(memoryview(plane), np.float32).reshape(height, -1)[:, :width] = samples[channel]
    encoder = av.CodecContext.create("exr", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = width, height, pix_fmt, Fraction(1, 24)
    encoder.options = options
    frame.pts = 0
    path.write_bytes(b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)]))


def exr_samples(path):
    with av.open(str(path)) as container:
        (frame,) = container.decode(video=0)
    dtype = np.float16 if "f16" in frame.format.name else np.float32
    planes = [
        np.frombuffer(bytes(plane), dtype).reshape(frame.height, -1)[:, : frame.width].astype(np.float32)
        for plane in frame.planes
    ]
    return frame.format.name, np.stack([planes[at] for at in (2, 0, 1, 3)[: len(planes)]])


def halves(size):
    """Every half in [0, 1], and beyond it what light does: highlights, negative values."""
    every = np.arange(0x3C01, dtype=np.uint16).view(np.float16).astype(np.float32)
    beyond = np.float32([1.5, 2, 16, 1000, 65504, -0.25, -3])
    values = np.concatenate([every, beyond])
    return np.resize(values, (3, *size))


def test_exr_gives_every_half_back_also_beyond_one(deliver, tmp_path):
    light = halves((64, 81))
    assert light.max() == 65504
    for number in (1, 2):
        write_exr(tmp_path / f"in.{number:04d}.exr", light[::-1] if number == 1 else light, {"format": "half"})
    deliver(tmp_path / "in.####.exr", tmp_path / "out.####.exr")
    for number in (1, 2):
        name, found = exr_samples(tmp_path / f"out.{number:04d}.exr")
        assert name == "gbrpf16le"
        np.testing.assert_array_equal(found, light[::-1] if number == 1 else light)


def test_one_exr_of_floats_with_alpha(deliver, tmp_path):
    light = np.random.default_rng(0).random((4, 20, 30), np.float32) * 3
    light[3] /= 3
    write_exr(tmp_path / "in.exr", light, {"format": "float"})
    deliver(tmp_path / "in.exr", tmp_path / "out.exr")
    name, found = exr_samples(tmp_path / "out.exr")
    assert name == "gbrapf32le"
    np.testing.assert_allclose(found[:3], light[:3], rtol=2e-6)
    np.testing.assert_array_equal(found[3], light[3])


def test_light_above_one_is_not_clipped_silently(deliver, tmp_path, caplog):
    write_exr(tmp_path / "in.exr", np.full((3, 16, 16), 4, np.float32), {})
    deliver(tmp_path / "in.exr", tmp_path / "out.png")
    assert cv2.imread(str(tmp_path / "out.png"), cv2.IMREAD_UNCHANGED).dtype == np.uint16
    assert caplog.text.count("clipped") == 1


def test_values_that_are_not_finite(tmp_path, caplog):
    light = np.full((3, 16, 16), 0.5, np.float32)
    light[:, 0, :2] = np.nan, np.inf
    write_exr(tmp_path / "in.exr", light, {"format": "float"})
    rgb, beside = read_exr(tmp_path / "in.exr")
    assert np.isfinite(rgb).all()
    assert np.isfinite(beside.outside).all()
    assert "not finite" in caplog.text


def test_video_becomes_linear_light(deliver, clips, tmp_path):
    frames = np.full((2, 32, 32, 3), 128, np.uint8)
    source = clips.write(tmp_path / "in.mkv", frames)
    deliver(source, tmp_path / "out.%03d.exr")
    _, light = exr_samples(tmp_path / "out.002.exr")
    assert light.mean() == pytest.approx(((128 / 255 + 0.055) / 1.055) ** 2.4, abs=1e-4)  # RGB, untagged: sRGB


HELD = {
    ("h264", "mp4"): ("h264", "yuv420p"), ("h264", "mov"): ("h264", "yuv420p"), ("h264", "mkv"): ("h264", "yuv420p"),
    ("hevc", "mp4"): ("hevc", "yuv420p"), ("hevc10", "mp4"): ("hevc", "yuv420p10le"),
    ("hevc10", "mov"): ("hevc", "yuv420p10le"), ("hevc10", "mkv"): ("hevc", "yuv420p10le"),
    ("av1", "mp4"): ("av1", "yuv420p10le"), ("av1", "mkv"): ("av1", "yuv420p10le"),
    ("av1", "webm"): ("av1", "yuv420p10le"), ("vp9", "webm"): ("vp9", "yuv420p"), ("vp9", "mkv"): ("vp9", "yuv420p"),
    ("vp9", "mp4"): ("vp9", "yuv420p"), ("prores", "mov"): ("prores", "yuv422p10le"),
    ("prores", "mkv"): ("prores", "yuv422p10le"), ("prores4444", "mov"): ("prores", "yuv444p10le"),
    ("prores4444", "mkv"): ("prores", "yuv444p10le"), ("ffv1", "mkv"): ("ffv1", "yuv420p"),
}  # fmt: skip


@pytest.mark.parametrize(("codec", "suffix"), HELD)
def test_every_codec_in_every_container(deliver, clips, make_source, tmp_path, codec, suffix, decoded):
    output = tmp_path / f"out.{suffix}"
    deliver(make_source, output, codec=codec)
    info, before = probe(output), probe(make_source)
    # libav decodes ProRes 4444 to 10 bits or to 12, as it is threaded
    assert (info.codec, info.pix_fmt.replace("12le", "10le")) == HELD[codec, suffix]
    assert (info.frames, info.width, info.height, info.vfr) == (before.frames, 64, 48, True)
    times = [time for _, time, _ in decoded(output)]
    assert times == [time for _, time, _ in decoded(make_source)]
    assert np.abs(clips.read(output)[0].astype(int) - clips.read(make_source)[0]).mean() < 3


@pytest.fixture(scope="session")
def make_source(tmp_path_factory):
    """Some frames of moving waves with uneven times, every one of them exact in milliseconds."""
    path = tmp_path_factory.mktemp("source") / "in.mp4"
    y, x = np.mgrid[0:48, 0:64]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, width=64, height=48, options={"crf": "8"})
        stream.time_base = Fraction(1, 1000)
        for i, pts in enumerate((0, 40, 80, 160, 200, 400)):
            waves = np.stack([127 + 80 * np.sin(0.1 * (x + c * y) + i) for c in range(3)], -1).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(waves, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = pts, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("codec", "suffix"), [("hevc10", "mp4"), ("prores", "mov"), ("prores4444", "mov"), ("av1", "mkv"), ("ffv1", "mkv")]
)
def test_ten_bits_stay_ten_bits(deliver, tmp_path, codec, suffix, decoded, depth_of):
    """A ramp through all codes but the four at each end that serial interfaces reserve: black, white and beyond."""
    width = 2032
    with av.open(str(tmp_path / "in.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25, width=width, height=64, pix_fmt="yuv422p10le")
        frame = av.VideoFrame(width, 64, "yuv422p10le")
        for plane, codes in zip(frame.planes, (4 + np.arange(width) // 2, 512, 512), strict=True):
            np.frombuffer(memoryview(plane), np.uint16).reshape(64, -1)[:, : plane.width] = codes
        frame.pts = 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    deliver(tmp_path / "in.mkv", tmp_path / f"out.{suffix}", codec=codec)
    ((pix_fmt, _, planes),) = decoded(tmp_path / f"out.{suffix}")
    luma = planes[0] >> (depth_of(pix_fmt) - 10)
    assert len(np.unique(luma)) > 900
    assert luma.max() > 1000  # superwhite


def test_alpha_goes_where_it_is_held(deliver, tmp_path, noise_clip, decoded, depth_of):
    source = noise_clip(tmp_path / "in.mkv", "yuva444p10le", size=(32, 64))
    deliver(source, tmp_path / "out.mov")
    assert probe(tmp_path / "out.mov").pix_fmt in ("yuva444p10le", "yuva444p12le")
    for (_, _, before), (pix_fmt, _, after) in zip(decoded(source), decoded(tmp_path / "out.mov"), strict=True):
        np.testing.assert_array_equal(before[3], after[3] >> (depth_of(pix_fmt) - 10))  # held without loss
    with pytest.raises(ConfigError, match=r"has alpha, which hevc in \.mp4 does not hold; write \.mov.*--no-alpha"):
        deliver(source, tmp_path / "out.mp4")
    with pytest.raises(ConfigError, match=r"h264 in \.mkv does not hold; choose prores4444 or ffv1"):
        deliver(source, tmp_path / "no.mkv", codec="h264")
    deliver(source, tmp_path / "out.mp4", alpha=False)
    assert probe(tmp_path / "out.mp4").pix_fmt == "yuv444p10le"
    deliver(source, tmp_path / "out.%02d.png")
    assert cv2.imread(str(tmp_path / "out.03.png"), cv2.IMREAD_UNCHANGED).shape == (32, 64, 4)
