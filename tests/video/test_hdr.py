"""Static HDR metadata: into the stream and into the container, proven by reading frames and bytes again."""

from dataclasses import replace
from fractions import Fraction

import av
import pytest

from vrestore.video import SegmentWriter, choose_encoding, mux, open_reader, probe
from vrestore.video.hdr import marked_template, with_hdr
from vrestore.video.info import HdrMetadata, MasteringDisplay

BT2020 = tuple(Fraction(n, 50000) for n in (35400, 14600, 8500, 39850, 6550, 2300, 15635, 16450))
GRADED = HdrMetadata(MasteringDisplay(BT2020, (Fraction(1, 200), Fraction(1000))), (1000, 400))
CASES = {
    "both": GRADED,
    "display only": HdrMetadata(GRADED.mastering, None),
    "light only": HdrMetadata(None, (1000, 400)),
}


def written(make_clip, tmp_path, hdr, codec, suffix):
    """A clip with the metadata, through one encoder and container."""
    info = replace(probe(make_clip("in.mkv", pix_fmt="yuv420p10le", color=(9, 16, 9, 1), pts=range(3))), hdr=hdr)
    output = tmp_path / f"out{suffix}"
    encoding = choose_encoding(info, output, (48, 64))
    if codec != encoding.codec:
        options = {} if codec == "ffv1" else {"crf": "20"}
        if codec == "libx264":
            options["bf"] = "2"
        encoding = replace(
            encoding, codec=codec, pix_fmt="yuv420p10le", options=tuple(with_hdr(options, codec, hdr).items())
        )
    with open_reader(info) as reader, SegmentWriter(tmp_path / "segment", (48, 64), encoding, info) as writer:
        for frame in reader.frames():
            writer.write(frame.rgb, frame.pts)
    mux([tmp_path / "segment"], info, output)
    return probe(output), output


def close(a, b):
    if a is None or b is None:
        return a is b
    pairs = zip((*a.chromaticities, *a.luminance), (*b.chromaticities, *b.luminance), strict=True)
    return all(abs(x - y) <= max(y / 1000, Fraction(2, 100_000)) for x, y in pairs)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    ("codec", "suffix"),
    [("libx265", ".mp4"), ("libx264", ".mp4"), ("libsvtav1", ".webm"), ("ffv1", ".mkv")],
)
def test_it_arrives(make_clip, tmp_path, case, codec, suffix):
    hdr = CASES[case]
    found, output = written(make_clip, tmp_path, hdr, codec, suffix)
    assert found.frames == 3
    assert found.hdr.light == hdr.light
    assert close(found.hdr.mastering, hdr.mastering)
    display, light = (b"mdcv", b"clli") if suffix in (".mp4", ".mov") else (b"\x55\xd1\x88", b"\x55\xbc\x82")
    data = output.read_bytes()
    assert (display in data, light in data) == (hdr.mastering is not None, hdr.light is not None)


def test_what_has_none_gets_none(make_clip, tmp_path):
    found, output = written(make_clip, tmp_path, None, "libx265", ".mp4")
    assert found.hdr is None
    assert b"mdcv" not in output.read_bytes()


def test_a_codec_that_is_not_known_has_no_template(make_clip):
    with av.open(str(make_clip("in.mkv", codec="mpeg4"))) as container:
        assert marked_template(container.streams.video[0].codec_context, GRADED, 0) is None


def test_a_template_is_a_stream_like_the_other(make_clip):
    with av.open(str(make_clip("in.mkv", pts=range(2)))) as container:
        context = container.streams.video[0].codec_context
        with marked_template(context, GRADED, 3) as template:
            assert template.streams.video[0].codec_context.name == "h264"
            assert (template.streams.video[0].width, template.streams.video[0].height) == (64, 48)
