"""What comes out is what came in: every kind of output, through the real engine with a head that changes nothing."""

import importlib.util
import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

import vrestore.cli
import vrestore.priors
from vrestore.errors import ConfigError, OutputError, ResumeError, UnsupportedMediaError
from vrestore.report import RunOptions
from vrestore.video import Formats, probe
from vrestore.video.exr import read_exr

HEAD = Path(__file__).parent / "identity" / "identity_head.py"


@pytest.fixture(scope="session")
def head():
    """The module of the head that changes nothing."""
    spec = importlib.util.spec_from_file_location("identity_head", HEAD)
    module = importlib.util.module_from_spec(spec)
    sys.modules["identity_head"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def deliver(head, monkeypatch):
    """deliver(source, output, codec=..., ...) runs the head in this process; keywords are those of Formats."""
    from vrestore.engine import run

    monkeypatch.setitem(vrestore.priors.FAMILIES, "IdentityPrior", "identity_head")
    monkeypatch.setattr(vrestore.cli, "TASKS", {"identity": "identity_head:Identity"})

    def run_it(source, output, *, options=None, fail_at=None, **formats):
        settings = RunOptions(formats=Formats(**formats), **(options or {}))
        config = head.IdentityConfig(window=8, overlap=2, fail_at=fail_at)
        return run(head.Identity(config), source, output, settings)

    return run_it


def depth_of(pix_fmt):
    digits = pix_fmt.removesuffix("le").rpartition("p")[2]
    return int(digits) if digits.isdecimal() else 8


def noise_clip(path, pix_fmt, count=3, size=(30, 44), codec="ffv1"):
    """Every code that the format has, at random: superwhite, colours outside of the gamut, hard chroma edges."""
    noise = np.random.default_rng(1)
    depth = depth_of(pix_fmt)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, width=size[1], height=size[0], pix_fmt=pix_fmt)
        for i in range(count):
            frame = av.VideoFrame(size[1], size[0], pix_fmt)
            for plane in frame.planes:
                codes = np.frombuffer(memoryview(plane), np.uint8 if depth == 8 else "<u2")
                codes[:] = noise.integers(0, 2**depth, codes.size)
                if pix_fmt == "bgr0":
                    codes[3::4] = 0
            frame.pts, frame.time_base = i, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def decoded(path):
    """(format, time, samples of each plane) of every frame."""
    found = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            dtype = np.uint8 if depth_of(frame.format.name) == 8 else np.uint16
            wide = 4 if frame.format.name in ("bgr0", "bgra") else 1
            planes = [
                np.frombuffer(bytes(plane), dtype).reshape(plane.height, -1)[:, : plane.width * wide]
                for plane in frame.planes
            ]
            found.append((frame.format.name, frame.pts * frame.time_base, planes))
    return found


def assert_same_frames(a, b):
    before, after = decoded(a), decoded(b)
    assert [one[:2] for one in before] == [one[:2] for one in after]
    for (_, _, old), (_, _, new) in zip(before, after, strict=True):
        for left, right in zip(old, new, strict=True):
            np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("size", [(1, 1), (63, 127), (2, 400)])
def test_ffv1_holds_any_size(deliver, tmp_path, size):
    source = noise_clip(tmp_path / "in.nut", "yuv444p", size=size, codec="rawvideo")
    deliver(source, tmp_path / "out.mkv")
    assert_same_frames(source, tmp_path / "out.mkv")


@pytest.mark.parametrize(
    "pix_fmt",
    ["bgr0", "gbrp10le", "gbrp16le", "yuv420p", "yuv444p", "yuv422p10le", "yuv420p10le", "yuv420p16le", "yuv444p16le",
     "bgra", "yuva420p", "yuva444p10le", "gbrap16le"],
)  # fmt: skip
def test_ffv1_gives_every_code_back(deliver, tmp_path, pix_fmt):
    source = noise_clip(tmp_path / "in.mkv", pix_fmt)
    deliver(source, tmp_path / "out.mkv")
    assert_same_frames(source, tmp_path / "out.mkv")


def pictures(folder, pattern, dtype, channels=3, first=1001, count=4, size=(22, 34)):
    """A sequence of noise; its arrays, as OpenCV has them."""
    noise = np.random.default_rng(2)
    made = []
    for i in range(count):
        codes = noise.integers(0, np.iinfo(dtype).max + 1, (*size, channels)).astype(dtype)
        assert cv2.imwrite(str(folder / (pattern % (first + i))), codes)
        made.append(codes)
    return made


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("kind", "channels"), [("png", 3), ("png", 4), ("tif", 3)])
def test_a_sequence_comes_out_with_its_numbers_and_every_bit(deliver, tmp_path, dtype, kind, channels):
    made = pictures(tmp_path, f"shot.%04d.{kind}", dtype, channels)
    result = deliver(tmp_path / f"shot.%04d.{kind}", tmp_path / f"out.%04d.{kind}")
    assert (result.frames, result.fps) == (4, "24")
    for number, codes in enumerate(made, 1001):
        found = cv2.imread(str(tmp_path / f"out.{number}.{kind}"), cv2.IMREAD_UNCHANGED)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, codes)
    assert len(list(tmp_path.iterdir())) == 8


def test_tiff_with_alpha_keeps_every_bit(deliver, tmp_path):
    made = pictures(tmp_path, "in.%d.png", np.uint16, 4, first=9, count=3)
    deliver(tmp_path / "in.%d.png", tmp_path / "out.##.tif")
    for number, codes in enumerate(made, 9):
        with av.open(str(tmp_path / f"out.{number:02d}.tif")) as container:
            (frame,) = container.decode(video=0)
        assert frame.format.name == "rgba64le"  # the file itself says that the fourth is alpha
        np.testing.assert_array_equal(frame.to_ndarray(), codes[..., [2, 1, 0, 3]])


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


# codec, suffix: codec and pixel format that the file has then
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
def test_every_codec_in_every_container(deliver, clips, make_source, tmp_path, codec, suffix):
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
def test_ten_bits_stay_ten_bits(deliver, tmp_path, codec, suffix):
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


def test_alpha_goes_where_it_is_held(deliver, tmp_path):
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


def test_a_still_with_alpha(deliver, tmp_path):
    codes = np.random.default_rng(0).integers(0, 256, (20, 30, 4)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "in.png"), codes)
    deliver(tmp_path / "in.png", tmp_path / "out.png")
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "out.png"), cv2.IMREAD_UNCHANGED), codes)
    with pytest.raises(ConfigError, match="--no-alpha"):
        deliver(tmp_path / "in.png", tmp_path / "out.jpg")
    codes[..., 3] = 255  # opaque all over: nothing is lost without it
    cv2.imwrite(str(tmp_path / "in.png"), codes)
    deliver(tmp_path / "in.png", tmp_path / "out.jpg")


def test_a_sequence_resumes_and_shows_nothing_before_its_end(deliver, tmp_path, monkeypatch):
    import vrestore.engine

    monkeypatch.setattr(vrestore.engine, "SEGMENT_FRAMES", 4)
    made = pictures(tmp_path, "in.%03d.png", np.uint16, first=0, count=24)
    before = sorted(tmp_path.iterdir())
    source, output = tmp_path / "in.%03d.png", tmp_path / "out.%03d.png"
    with pytest.raises(RuntimeError, match="asked to fail"):
        deliver(source, output, fail_at=22)
    assert sorted(tmp_path.iterdir()) == [*before, tmp_path / "out.%03d.png.vrestore"]
    kept = json.loads((tmp_path / "out.%03d.png.vrestore" / "job.json").read_text())["state"]["frames"]
    assert 0 < kept < 24
    with pytest.raises(ResumeError, match="encoding was"):
        deliver(source, output, options={"resume": True}, fail_at=22, pix_fmt="rgb24")
    with pytest.raises(ResumeError, match="fps was 24, is 25"):
        deliver(source, output, options={"resume": True}, fail_at=22, fps="25")
    # the failure counts frames of a run: the second one stops before it gets there
    deliver(source, output, options={"resume": True}, fail_at=22)
    for number, codes in enumerate(made):
        np.testing.assert_array_equal(cv2.imread(str(tmp_path / f"out.{number:03d}.png"), -1), codes)
    assert len(list(tmp_path.iterdir())) == 48


def test_a_sequence_becomes_a_video_and_a_part_of_it_keeps_its_numbers(deliver, tmp_path):
    pictures(tmp_path, "in.%04d.png", np.uint8, count=5)
    deliver(tmp_path / "in.%04d.png", tmp_path / "out.mkv", fps="23.976")
    assert (probe(tmp_path / "out.mkv").fps, probe(tmp_path / "out.mkv").frames) == (Fraction(24000, 1001), 5)
    deliver(tmp_path / "in.%04d.png", tmp_path / "part.%d.png", options={"start": "2", "end": "4"})
    assert sorted(path.name for path in tmp_path.glob("part.*")) == ["part.1003.png", "part.1004.png"]
    deliver(tmp_path / "out.mkv", tmp_path / "back.%03d.png", first_number=7, options={"end": "1"})
    assert [path.name for path in tmp_path.glob("back.*")] == ["back.007.png"]


def test_a_sequence_does_not_replace_what_it_must_not(deliver, tmp_path):
    pictures(tmp_path, "in.%04d.png", np.uint8, count=3)
    kept = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for output in ("in.%04d.png", "in.%d.png"):
        with pytest.raises(OutputError, match=r"in\.1001\.png is the input itself"):
            deliver(tmp_path / "in.%04d.png", tmp_path / output)
    (tmp_path / "out.1002.png").write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"out\.1002\.png exists"):
        deliver(tmp_path / "in.%04d.png", tmp_path / "out.%04d.png", options={"overwrite": False})
    assert {path: path.read_bytes() for path in kept} == kept


def test_pictures_of_two_sizes(deliver, tmp_path):
    pictures(tmp_path, "in.%d.png", np.uint8, first=1, count=2)
    pictures(tmp_path, "in.%d.png", np.uint8, first=3, count=1, size=(22, 36))
    with pytest.raises(UnsupportedMediaError, match=r"in\.3\.png is 36x22, the first picture of the sequence 34x22"):
        deliver(tmp_path / "in.%d.png", tmp_path / "out.%d.png")
    assert len(list(tmp_path.iterdir())) == 3


def vrestore_process(*arguments, data=None):
    return subprocess.run(
        [sys.executable, str(HEAD), "identity", *map(str, arguments)], input=data, capture_output=True, check=False
    )


def test_y4m_from_pipe_to_pipe(tmp_path):
    source = noise_clip(tmp_path / "in.mkv", "yuv420p10le", size=(31, 45))
    before = sorted(tmp_path.iterdir())
    once = vrestore_process(source, "-o", "-", "--json")
    assert once.returncode == 0, once.stderr
    assert json.loads(once.stderr[once.stderr.index(b"{") :])["frames"] == 3
    assert once.stdout.startswith(b"YUV4MPEG2 W45 H31 F25:1 Ip A1:1 C42")
    twice = vrestore_process("-", "-o", tmp_path / "out.mkv", "--codec", "ffv1", "--no-record", data=once.stdout)
    assert twice.returncode == 0, twice.stderr
    assert sorted(tmp_path.iterdir()) == sorted([*before, tmp_path / "out.mkv"])  # the copy of stdin is gone
    assert_same_frames(source, tmp_path / "out.mkv")


def test_a_reader_that_goes_away(tmp_path):
    source = noise_clip(tmp_path / "in.mkv", "yuv444p", count=12, size=(240, 320))
    with subprocess.Popen(
        [sys.executable, str(HEAD), "identity", str(source), "-o", "-"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout.read(9) == b"YUV4MPEG2"
        process.stdout.close()
        told = process.stderr.read().decode()
    assert process.returncode == 1
    assert "the program that reads stdout has ended after" in told
    assert "Traceback" not in told
    assert "Exception ignored" not in told


def test_stdin_that_is_no_video():
    done = vrestore_process("-", "-o", "-", data=b"nothing that is a video")
    assert (done.returncode, done.stdout) == (1, b"")
