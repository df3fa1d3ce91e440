"""What may be asked of an output, what follows from it, and what is refused before anything is done."""

import dataclasses
from fractions import Fraction
from pathlib import Path

import pytest

from vrestore.errors import ConfigError
from vrestore.video import ColorTags, Formats, VideoInfo, choose_encoding, output_beside
from vrestore.video.choose import formats_of
from vrestore.video.formats import CODECS
from vrestore.video.output import choose_output
from vrestore.video.pictures import choose_pictures

PLAIN = VideoInfo(
    path=Path("in.mp4"), width=64, height=48, frames=10, fps=Fraction(25), time_base=Fraction(1, 25), start_pts=0,
    duration_s=0.4, codec="h264", pix_fmt="yuv420p", bit_depth=8, color=ColorTags(6, 6, 6, 1, 1),
)  # fmt: skip
SIZE = (96, 128)


def info_with(**changes):
    return dataclasses.replace(PLAIN, **changes)


def chosen(output="o.mov", size=SIZE, info=PLAIN, **formats):
    return choose_encoding(info, output, size, Formats(**formats))


DEEP = info_with(pix_fmt="yuv422p10le", bit_depth=10)


@pytest.mark.parametrize(
    ("info", "codec", "output", "size", "pix_fmt"),
    [
        (PLAIN, "prores", "o.mov", (45, 61), "yuv422p10le"),
        (PLAIN, "prores4444", "o.mkv", SIZE, "yuv444p10le"),
        (PLAIN, "hevc10", "o.mp4", SIZE, "yuv420p10le"),
        (PLAIN, "hevc10", "o.mp4", (95, 127), "yuv444p10le"),
        (DEEP, "h264", "o.mp4", SIZE, "yuv422p10le"),
        (DEEP, "hevc", "o.mp4", SIZE, "yuv422p10le"),
        (DEEP, "ffv1", "o.mkv", SIZE, "yuv422p10le"),
        (DEEP, "av1", "o.mp4", (95, 127), "yuv420p10le"),
        (info_with(pix_fmt="rgb48le", bit_depth=16), "ffv1", "o.mkv", SIZE, "gbrp16le"),
        (info_with(pix_fmt="rgb48le", bit_depth=16), "prores4444", "o.mov", SIZE, "yuv444p10le"),
        (info_with(codec="exr", pix_fmt="gbrpf16le", bit_depth=16), "hevc", "o.mp4", SIZE, "yuv420p12le"),
        (info_with(codec="exr", pix_fmt="gbrapf16le", bit_depth=16), "ffv1", "o.mkv", SIZE, "gbrap16le"),
        (info_with(codec="qtrle", pix_fmt="argb"), None, "o.mkv", SIZE, "bgra"),
        (info_with(codec="qtrle", pix_fmt="argb"), None, "o.mov", SIZE, "yuva444p10le"),
    ],
)
def test_the_format_keeps_what_it_can(info, codec, output, size, pix_fmt):
    assert chosen(output, size, info, codec=codec).pix_fmt == pix_fmt


def test_less_depth_is_told(caplog):
    assert chosen("o.webm", info=DEEP, codec="vp9").pix_fmt == "yuv422p"
    assert "10 bits of the input become 8" in caplog.text


@pytest.mark.parametrize(
    ("formats", "output", "message"),
    [
        ({"codec": "prores"}, "o.mp4", r"\.mp4 does not hold prores; name the output \.mov or \.mkv, or .* h264, hevc"),
        ({"codec": "ffv1"}, "o.webm", r"\.webm does not hold ffv1; name the output \.mkv, or choose one of av1, vp9"),
        ({"codec": "prores", "crf": 10}, "o.mov", "prores has no crf; leave it out, or choose one of h264"),
        ({"codec": "h264", "crf": 52}, "o.mov", "crf is 52; h264 takes 0 to 51"),
        ({"crf": 64}, "o.webm", "crf is 64; vp9 takes 0 to 63"),
        ({"codec": "prores", "pix_fmt": "yuv420p"}, "o.mov", "yuv420p is not written with prores; .* yuv422p10le"),
        ({"codec": "h264", "pix_fmt": "rgb24"}, "o.mov", "rgb24 is not written with h264; choose one of yuv420p, "),
        ({"encoder_args": "preset"}, "o.mov", "'preset' is not name=value"),
        ({"encoder_args": "tempo=1", "codec": "prores"}, "o.mov", "'tempo' is not known to prores_ks"),
        ({"encoder_args": "tempo=1", "codec": "h264"}, "o.mov", "does not take an encoder argument: .*tempo"),
        ({"encoder_args": "preset=no", "codec": "h264"}, "o.mov", "refused by libx264 .*preset"),
        ({"first_number": 5}, "o.mov", "first number is for image sequences"),
        ({"first_number": -1}, "o.%d.png", "first number is -1"),
        ({"codec": "h264"}, "o.%d.png", "codec, crf and encoder arguments are for videos"),
        ({"pix_fmt": "yuv420p"}, "o.%d.png", "not one of .png without alpha; choose one of rgb24, rgb48le"),
        ({"crf": 10}, "-", "uncompressed Y4M; leave out"),
        ({"fps": "fast"}, "o.mov", "fps is 'fast'"),
        ({"fps": "0"}, "o.mov", "fps is 0; give more"),
    ],
)
def test_what_cannot_be_is_refused(formats, output, message):
    with pytest.raises(ConfigError, match=message):
        choose_output(PLAIN, Path(output), SIZE, (0, 10), Formats(**formats))


def test_odd_sizes_and_formats_for_even_ones():
    with pytest.raises(ConfigError, match="h264 takes yuv420p in even sizes only, not 61x45; choose a yuv444p"):
        chosen("o.mp4", (45, 61), codec="h264", pix_fmt="yuv420p")


def test_settings_reach_the_encoder():
    options = dict(chosen("o.mp4", codec="hevc", crf=20, encoder_args="preset=medium:aq-mode=3:psy-rd=1.5").options)
    assert (options["crf"], options["preset"]) == ("20", "medium")
    assert options["x265-params"].endswith(":aq-mode=3:psy-rd=1.5")  # what only x265 knows goes on to it
    assert "bframes=0" in options["x265-params"]
    assert chosen("o.mp4", info=DEEP, pix_fmt="yuv444p10").pix_fmt == "yuv444p10le"  # its byte order is added
    assert dict(chosen("o.mov", codec="prores4444").options)["profile"] == "4444"


def test_alpha_needs_a_format_with_alpha():
    clear = info_with(pix_fmt="yuva444p10le", bit_depth=10)
    with pytest.raises(
        ConfigError, match="yuv444p10le has no alpha, the input has; choose yuva444p10le, or --no-alpha"
    ):
        chosen("o.mov", info=clear, codec="prores4444", pix_fmt="yuv444p10le")
    with pytest.raises(ConfigError, match="Y4M does not hold"):
        chosen("-", info=clear)
    with pytest.raises(ConfigError, match=r"\.jpg does not hold; write \.png"):
        choose_pictures(clear, Path("o.jpg"), (48, 64), Formats(), None)
    assert choose_pictures(clear, Path("o.png"), (48, 64), Formats(), None).pix_fmt == "rgba64le"
    assert choose_pictures(clear, Path("o.png"), (48, 64), Formats(pix_fmt="rgba"), None).pix_fmt == "rgba"
    assert choose_pictures(clear, Path("o.jpg"), (48, 64), Formats(alpha=False), None).pix_fmt == "rgb24"


def test_pictures_of_hdr_and_premultiplied_colours_are_told(caplog):
    hdr = info_with(color=ColorTags(9, 16, 9, 1), pix_fmt="yuv420p10le", bit_depth=10, audio_streams=1)
    assert choose_pictures(hdr, Path("o.%d.tif"), (48, 64), Formats(), 1).pix_fmt == "rgb48le"
    assert "not tagged" in caplog.text
    with pytest.raises(ConfigError, match="transfer curve 16"):
        choose_pictures(hdr, Path("o.%d.exr"), (48, 64), Formats(), 1)
    choose_pictures(info_with(pix_fmt="rgba"), Path("o.exr"), (48, 64), Formats(), None)
    assert "premultiplied" in caplog.text


def test_prores_is_never_full_range():
    full = info_with(color=ColorTags(1, 1, 1, 2, 1))
    assert chosen("o.mov", info=full, codec="prores").color.range == 1
    assert chosen("o.mp4", info=full, codec="h264").color.range == 2


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("25", 25),
        ("23.976", Fraction(24000, 1001)),
        ("12.5", Fraction(25, 2)),
        ("29.97", Fraction(30000, 1001)),
        ("30000/1001", Fraction(30000, 1001)),
    ],
)
def test_rates(text, rate):
    assert Formats(fps=text).rate() == rate


@pytest.mark.parametrize("name", CODECS)
def test_every_codec_has_formats(name):
    assert formats_of(name)


def test_names_beside_sequences_and_pipes():
    assert str(output_beside(Path("a/shot.%04d.exr"), "sr")) == "a/shot_sr.%04d.exr"
    assert str(output_beside(Path("shot_%04d.dpx"), "sr")) == "sr_shot_%04d.tif"
    with pytest.raises(ConfigError, match="name the output with -o"):
        output_beside(Path("-"), "sr")
