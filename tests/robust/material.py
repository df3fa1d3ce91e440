"""Small clips in many containers, and what can be read of them."""

from fractions import Fraction

import av
import numpy as np

KINDS = {
    "mkv": ("ffv1", "bgr0", "libopus"),
    "mp4": ("libx264", "yuv420p", "aac"),
    "mov": ("prores_ks", "yuv422p10le", "pcm_s16le"),
    "webm": ("libvpx-vp9", "yuv420p", "libopus"),
    "avi": ("mpeg4", "yuv420p", "libmp3lame"),
    "ts": ("mpeg2video", "yuv420p", "mp2"),
}
"""Video codec, pixel format and audio codec by suffix."""
MUXERS = {"mkv": "matroska", "ts": "mpegts"}


def write(path, frames, *, size=(48, 64), rate=Fraction(25), pts=None, sound=True, seed=0):
    """A drifting texture with noise for sound, in what `KINDS` says of the suffix; the path."""
    codec, pix_fmt, sound_codec = KINDS[path.suffix[1:]]
    height, width = size
    noise = np.random.default_rng(seed)
    texture = noise.integers(0, 256, (height + 16, width + 16, 3), np.uint8)
    with av.open(str(path), "w", format=MUXERS.get(path.suffix[1:], path.suffix[1:])) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        track = container.add_stream(sound_codec, rate=48000) if sound else None
        if track is not None:
            track.layout = "stereo"
        for n in range(frames):
            part = np.roll(texture, (n // 2, n), (0, 1))[:height, :width]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(part), format="rgb24")
            frame.pts, frame.time_base = n if pts is None else pts[n], 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if track is not None:
            _write_sound(container, track, frames / rate, noise)
    return path


def _write_sound(container, track, seconds, noise):
    resampler = av.AudioResampler(format=track.format, layout="stereo", rate=48000, frame_size=track.frame_size or 1024)
    for start in range(0, int(seconds * 48000), 1024):
        samples = noise.integers(-9000, 9000, (1, 2048), np.int16)
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
        for part in resampler.resample(frame):
            container.mux(track.encode(part))
    container.mux(track.encode())


def decoded(path):
    """Bytes of every decoded frame, their times, and bytes of every audio packet with its time."""
    with av.open(str(path)) as container:
        frames = [(frame.pts * frame.time_base, _samples(frame)) for frame in container.decode(video=0)]
    with av.open(str(path)) as container:
        sound = [(p.pts * p.time_base, bytes(p)) for p in container.demux(container.streams.audio[:1]) if p.size]
    return frames, sound


def _samples(frame):
    """What a frame shows, without the bytes that pad it."""
    plain = frame.reformat(format="rgb24") if frame.format.name == "bgr0" else frame
    return plain.to_ndarray().tobytes()
