"""Opening of inputs: the right error for a bad file, and what is known from a container's outer structure."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import av
from av.container import InputContainer
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from vrestore.errors import EmptyMediaError, MissingInputError, UnreadableMediaError, UnsupportedMediaError

AnyPacket: TypeAlias = Any
"""A packet. PyAV's own type is generic for type checkers, but not at run time."""

_MP4_BOXES = {b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"uuid", b"moof", b"sidx", b"mfra", b"styp"}
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
_PLAYLISTS = {"concat", "hls", "dash", "sdp"}
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


def check_file(path: Path) -> None:
    """Raises the error that says why ``path`` cannot even be opened."""
    if not path.exists():
        raise MissingInputError(f"{path} does not exist; give the path of a video or a picture")
    if path.is_dir():
        raise UnsupportedMediaError(f"{path} is a folder; give the path of one video or picture")
    if not path.is_file():
        raise UnsupportedMediaError(f"{path} is not a regular file; save the video to a file first")
    if not os.access(path, os.R_OK):
        raise UnreadableMediaError(f"{path} cannot be read: permission denied")
    if path.stat().st_size == 0:
        raise UnreadableMediaError(f"{path} is empty (0 bytes); copy or download it again")
    missing = missing_bytes(path)
    if missing:
        raise UnreadableMediaError(
            f"{path} is truncated: at least {missing} of its bytes are missing; copy or download it again, "
            "or save what is there as a new file with a remuxing tool"
        )


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns what libav raises inside the block into an UnreadableMediaError about ``path``."""
    try:
        yield
    except av.error.FFmpegError as error:
        raise UnreadableMediaError(f"{path} is not a readable video or picture: {reason(error)}") from error


def reason(error: BaseException) -> str:
    """One line of what went wrong."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0]


@contextmanager
def open_container(path: Path) -> Iterator[InputContainer]:
    """An opened input container; libav's errors become UnreadableMediaError."""
    # "file:" keeps libav from taking a colon in the name for a protocol
    options = {"protocol_whitelist": "file"}  # an input may name others, but not on the network
    with reading(path), av.open(f"file:{path}", "r", options=options, metadata_errors="surrogateescape") as container:
        if container.format.name == "tty":  # libav draws any text file as a terminal
            raise UnreadableMediaError(f"{path} is a text file, not a video or picture")
        if container.format.name in _PLAYLISTS:
            raise UnsupportedMediaError(f"{path} is a list of other files; give one video, or join them first")
        yield container


def video_stream(container: InputContainer, path: Path) -> VideoStream:
    """The first stream of moving pictures, set up for decoding.

    Raises:
        EmptyMediaError: there is none (sound only, or sound with cover art).
    """
    for stream in container.streams.video:
        if not int(stream.disposition) & int(av.stream.Disposition.attached_pic):
            if stream.codec_context is None:
                raise UnsupportedMediaError(f"{path}: no decoder for its video; convert it to H.264 first")
            stream.thread_type = "AUTO"
            return stream
    kinds = sorted({str(stream.type) for stream in container.streams}) or ["no"]
    raise EmptyMediaError(f"{path} holds no video, only {' and '.join(kinds)} streams; give a file with video")


def decoded(packets: Iterable[AnyPacket], stream: VideoStream) -> Iterator[VideoFrame]:
    """Frames of the stream's packets, the last one empty; with alpha where VP8 or VP9 has it.

    That is a second stream inside of the packets, which libav's own decoders leave out and libvpx reads.
    """
    name = _ALPHA_DECODERS.get(stream.codec_context.name) if stream.metadata.get("alpha_mode") == "1" else None
    decoder = None if name is None else av.CodecContext.create(name, "r")
    for packet in packets:
        frames: Any = packet.decode() if decoder is None else decoder.decode(packet if packet.size else None)
        yield from frames


def time_base_of(stream: Stream) -> Fraction:
    """Seconds per unit of the stream's times."""
    return Fraction(stream.time_base or Fraction(1, av.time_base))


def missing_bytes(path: Path) -> int:
    """How many bytes the outer structure (MP4, Matroska, RIFF) promises beyond the end of the file; 0 if none."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if head[4:8] in _MP4_BOXES:
            end = _end_of_boxes(file, size)
        elif head[:4] == _EBML:
            end = _end_of_segment(file)
        elif head[:4] == b"RIFF":
            end = 8 + int.from_bytes(head[4:8], "little")
        else:
            end = 0
    return max(0, end - size)


def _end_of_boxes(file: BinaryIO, size: int) -> int:
    position = 0
    while position < size:
        file.seek(position)
        head = file.read(16)
        length, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if kind not in _MP4_BOXES:  # trailing bytes of another kind do no harm
            return position
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length < 8:  # 0: up to the end of the file
            return size
        position += length
    return position


def _end_of_segment(file: BinaryIO) -> int:
    """Where the Matroska segment ends by its own word; 0 if it does not say (a recording that was cut off)."""
    file.seek(4)
    position = 4 + sum(_vint(file))
    file.seek(position)
    if file.read(4) != _SEGMENT:
        return 0
    width, length = _vint(file)
    unknown = length == 2 ** (7 * width) - 1
    return 0 if unknown else position + 4 + width + length


def _vint(file: BinaryIO) -> tuple[int, int]:
    """Width in bytes and value of an EBML variable-length integer (RFC 8794, section 4)."""
    first = file.read(1)
    width = 9 - first[0].bit_length() if first and first[0] else 1
    value = int.from_bytes(first + file.read(width - 1), "big")
    return width, value & (2 ** (7 * width) - 1)
