"""Inputs for the conformance table: small files with everything that can be lost, written with PyAV."""

import io
from fractions import Fraction

import av
import av.filter
import numpy as np
from PIL import Image

SIZE = (48, 64)
RAMP = (32, 1024)
FRAMES = 10
MILLISECOND = Fraction(1, 1000)
TICK = Fraction(1, 30000)
RATE = Fraction(30000, 1001)
VARIABLE = (7007, 8008, 9509, 10010, 11011, 12512, 13013, 14014, 14514, 16016)
"""Times in ticks: about RATE, starting late, some frames out of step; the one at PART is not."""
PART = (3, 8)
TIMECODE, TIMECODE_OF_PART = "10:59:58:28", "10:59:59:01"
MASTERING = "G(8500,39850)B(6550,2300)R(35400,14600)WP(15635,16450)L(10000000,50)"
LIGHT = (1000, 400)
X264 = {"preset": "ultrafast", "crf": "1", "bf": "2"}


def fill(frame, planes):
    if len(frame.planes) == 1:  # packed, eight bits
        samples = np.frombuffer(memoryview(frame.planes[0]), np.uint8).reshape(frame.height, -1)
        for channel, values in enumerate(planes):
            samples[:, channel : 4 * frame.width : 4] = values
        return
    kind = np.uint16 if frame.format.components[0].bits > 8 else np.uint8
    for plane, values in zip(frame.planes, planes, strict=True):
        samples = np.frombuffer(memoryview(plane), kind).reshape(plane.height, -1)
        samples[:, : plane.width] = values


def moving(i, depth, size=SIZE):
    """A wave that moves, and flat chroma that changes: colours that exist, in the limited range."""
    y, x = np.mgrid[0 : size[0], 0 : size[1]]
    wave = 120 + 60 * np.sin(0.13 * x + 0.3 * i) * np.cos(0.11 * y)
    return [np.round(plane * 2 ** (depth - 8)) for plane in (wave, 118 + i, 138 - i)]


def ramp(i, column):
    """Every code beside the next, without those that the limited range reserves."""
    reserved = 0 if column.full else 2 ** (column.depth - 8)
    luma = np.tile(np.linspace(reserved, 2**column.depth - 1 - reserved, RAMP[1]).round(), (RAMP[0], 1))
    return [luma, 2 ** (column.depth - 1), 2 ** (column.depth - 1)]


def shaping(stream, aspect):
    """A filter that marks frames with their pixel shape, which FFV1 has of frames only."""
    graph = av.filter.Graph()
    source = graph.add_buffer(width=stream.width, height=stream.height, format=stream.pix_fmt, time_base=TICK)
    graph.link_nodes(source, graph.add("setsar", str(aspect)), graph.add("buffersink")).configure()
    return graph


def write_video(container, stream, times, time_base, pictures, aspect=None):
    graph = shaping(stream, aspect) if aspect else None
    for time, planes in zip(times, pictures, strict=True):
        frame = av.VideoFrame(stream.width, stream.height, stream.pix_fmt)
        fill(frame, planes)
        frame.pts, frame.time_base = time, time_base
        if graph is not None:
            graph.push(frame)
            frame = graph.pull()
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def write_sound(container, stream, seconds, seed):
    noise = np.random.default_rng(seed)
    for start in range(0, int(seconds * 48000), 960):
        samples = (noise.random((2, 960), dtype=np.float32) - 0.5) / 2
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def write_text(container, stream, prefix):
    for number, start in enumerate((40, 200)):
        text = f"line {number}".encode()
        packet = av.Packet((len(text).to_bytes(2, "big") if prefix else b"") + text)
        packet.stream, packet.time_base, packet.duration = stream, MILLISECOND, 100
        packet.pts = packet.dts = start
        container.mux(packet)


def add_video(container, pix_fmt, rate, time_base, options):
    """``options``: of H.264; FFV1 where there are none."""
    codec = "libx264" if options else "ffv1"
    stream = container.add_stream(
        codec, rate=rate, width=SIZE[1], height=SIZE[0], time_base=time_base, options=options or {}
    )
    stream.pix_fmt = pix_fmt
    stream.time_base = time_base
    return stream


def film(path, column):
    """Two languages, subtitles, chapters, a cover, a font, tags; Matroska, which holds it all."""
    with av.open(str(path), "w") as container:
        options = None if column.lossless else X264
        video = add_video(container, column.film_format, 25, Fraction(1, 25), options)
        sounds = [container.add_stream(column.sound, rate=48000) for _ in range(2)]
        names = (("fra", "Stereo", "default"), ("deu", "Kommentar", "comment"))
        for sound, (language, title, disposition) in zip(sounds, names, strict=True):
            sound.metadata.update(language=language, title=title)
            sound.disposition = av.stream.Disposition[disposition]
        text = container.add_mux_stream(column.text)
        text.time_base, text.disposition = MILLISECOND, av.stream.Disposition.forced
        text.metadata["language"] = "spa"
        container.add_attachment("font.ttf", "font/ttf", b"letters")
        cover = io.BytesIO()
        Image.new("RGB", (16, 16), (200, 30, 30)).save(cover, "png")
        container.add_attachment("cover.png", "image/png", cover.getvalue())
        container.set_chapters(
            [
                {
                    "id": i,
                    "start": 200 * i,
                    "end": 200 * i + 200,
                    "time_base": MILLISECOND,
                    "metadata": {"title": title},
                }
                for i, title in enumerate(("one", "two"))
            ]
        )
        container.metadata.update(title="a film", reel="A003")
        pictures = (moving(i, column.film_depth) for i in range(FRAMES))
        write_video(container, video, range(FRAMES), Fraction(1, 25), pictures)
        for seed, sound in enumerate(sounds):
            write_sound(container, sound, FRAMES / 25, seed)
        write_text(container, text, prefix=False)


def camera(path, column):
    """A variable rate, a late start, a timecode, a turned picture of oblong pixels, tagged colours, tx3g subtitles."""
    quicktime = path.suffix == ".mov"
    with av.open(str(path), "w", container_options={"avoid_negative_ts": "disabled"}) as container:
        options = None if column.lossless and not column.pictures else X264 | {"chroma_sample_location": "topleft"}
        pix_fmt = "yuv420p" if column.depth == 8 else f"yuv420p{column.depth}le"
        video = add_video(container, pix_fmt, RATE, TICK, options)
        context = video.codec_context
        context.color_primaries, context.color_trc, context.colorspace, context.color_range = 9, 14, 9, 1
        context.sample_aspect_ratio = Fraction(4, 3)
        video.set_display_rotation(90)
        video.metadata["timecode"] = TIMECODE
        sound = container.add_stream(column.sound if not quicktime else "aac", rate=48000)
        text = container.add_mux_stream("mov_text") if quicktime else None
        if text is not None:
            text.time_base = MILLISECOND
        pictures = (moving(i, column.depth) for i in range(FRAMES))
        write_video(container, video, VARIABLE, TICK, pictures, Fraction(4, 3))
        write_sound(container, sound, 0.8, 5)
        if text is not None:
            write_text(container, text, prefix=True)


def graded(path, column):
    """A ramp through all codes with static HDR metadata."""
    marks = f"mastering-display={MASTERING}:cll={LIGHT[0]},{LIGHT[1]}:"
    _write_ramp(path, column, (9, 16, 9), marks)


def scale(path, column):
    """A ramp through all codes, BT.709."""
    _write_ramp(path, column, (1, 1, 1), "")


def _write_ramp(path, column, color, marks):
    with av.open(str(path), "w") as container:
        options = X264 | {"x264-params": f"{marks}bframes=0"}
        stream = container.add_stream("libx264", rate=25, width=RAMP[1], height=RAMP[0], options=options)
        stream.pix_fmt = f"yuv420p{column.depth}le"
        context = stream.codec_context
        context.color_primaries, context.color_trc, context.colorspace = color
        context.color_range = 2 if column.full else 1
        pictures = (ramp(i, column) for i in range(3))
        write_video(container, stream, range(3), Fraction(1, 25), pictures)
