"""Pipes: any video on stdin, by way of a temporary file, and uncompressed YUV4MPEG2 (Y4M) on stdout."""

import errno
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import numpy as np

from vrestore.errors import ConfigError, OutputError
from vrestore.video.colour import FULL, yuv_rule
from vrestore.video.encode import Encoding
from vrestore.video.formats import PIPE
from vrestore.video.info import Beside, Rgb, VideoInfo
from vrestore.video.planes import pixel_layout, rgb_to_frame

log = logging.getLogger(__name__)

_SITES = {1: "mpeg2", 2: "jpeg", 3: "paldv"}
"""Endings of the names of 8-bit 4:2:0, by chroma location."""


def is_pipe(path: Path | str | None) -> bool:
    """Whether a path stands for stdin or stdout."""
    return path is not None and str(path) == PIPE


@contextmanager
def local_input(path: Path | str, near: Path | str | None) -> Iterator[Path]:
    """The input as a file that can be read more than once: stdin is copied beside ``near`` (the output) for as long as
    the block runs, or to the system's folder for temporary files where that is a pipe too.

    Raises:
        OutputError: the copy cannot be written.
    """
    if not is_pipe(path):
        yield Path(path)
        return
    folder = None if near is None or is_pipe(near) else Path(near).parent
    try:
        with tempfile.NamedTemporaryFile(prefix=".vrestore-stdin-", dir=folder) as copy:
            shutil.copyfileobj(sys.stdin.buffer, copy, 1 << 20)
            copy.flush()
            yield Path(copy.name)
    except OSError as error:
        if isinstance(error, OutputError) or error.errno not in (errno.ENOSPC, errno.EACCES, errno.ENOENT, errno.EROFS):
            raise
        where = folder or tempfile.gettempdir()
        raise OutputError(f"stdin cannot be copied to {where}: {error.strerror}; make room there first") from error


class Y4mWriter:
    """Writes frames to stdout as they come.

    While it lives, everything else that goes to stdout (of native code, too) goes to stderr.

    Args:
        size: (height, width) of every frame.
        encoding: a planar YCbCr pixel format, and tags of which Y4M holds range, pixel shape and chroma location.
        info: gives ``fps``.
    """

    def __init__(self, size: tuple[int, int], encoding: Encoding, info: VideoInfo) -> None:
        self.frames = 0
        self._encoding, self._rule = encoding, yuv_rule(encoding.color, *size)
        sys.stdout.flush()
        self._file: BinaryIO | None = os.fdopen(os.dup(1), "wb")
        os.dup2(2, 1)
        self._put(_header(size, encoding, info.fps))

    def write(self, rgb: Rgb, pts: int, beside: Beside | None = None) -> None:
        """One frame; times do not count. OutputError if nobody reads any more."""
        if beside is not None and beside.outside is not None:
            rgb = rgb + beside.outside
        frame = rgb_to_frame(rgb, self._encoding.pix_fmt, self._rule, dither=False, exact=True)
        layout = pixel_layout(self._encoding.pix_fmt)
        depth = 8 if layout is None else layout.depth
        planes = [np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, -1) for plane in frame.planes]
        widths = [plane.width * (1 if depth == 8 else 2) for plane in frame.planes]
        self._put(b"FRAME\n", *(plane[:, :width].tobytes() for plane, width in zip(planes, widths, strict=True)))
        self.frames += 1

    def close(self) -> None:
        """Ends the stream. OutputError if nobody reads any more."""
        self._put()
        self.abort()

    def abort(self) -> None:
        """Gives stdout back."""
        file, self._file = self._file, None
        if file is None:
            return
        os.dup2(file.fileno(), 1)
        try:
            file.close()
        except OSError as error:
            log.debug("stdout: %s", error)

    def _put(self, *parts: bytes) -> None:
        if self._file is None:
            raise OutputError("stdout is closed")
        try:
            for part in parts:
                self._file.write(part)
            self._file.flush()
        except OSError as error:
            self.abort()
            gone = error.errno == errno.EPIPE
            why = "the program that reads stdout has ended" if gone else f"stdout cannot be written: {error.strerror}"
            raise OutputError(f"{why} after {self.frames} frames; nothing more is sent") from error


def _header(size: tuple[int, int], encoding: Encoding, fps: Fraction) -> bytes:
    """The stream's first line, in the form that libav reads and writes (deep formats and range are its extensions)."""
    layout = pixel_layout(encoding.pix_fmt)
    names = {(2, 2): "420", (1, 2): "422", (1, 1): "444"}
    if layout is None or layout.kind != "yuv" or layout.factors not in names:
        raise ConfigError(f"pixel format {encoding.pix_fmt} does not go into Y4M; choose a yuv420p or yuv444p one")
    space = names[layout.factors]
    if layout.depth > 8:
        space += f"p{layout.depth} XYSCSS={space}P{layout.depth}"
    elif space == "420":
        space += _SITES.get(encoding.color.chroma_location, "jpeg")
    aspect = encoding.sample_aspect
    extent = "FULL" if encoding.color.range == FULL else "LIMITED"
    return (
        f"YUV4MPEG2 W{size[1]} H{size[0]} F{fps.numerator}:{fps.denominator} Ip "
        f"A{aspect.numerator}:{aspect.denominator} C{space} XCOLORRANGE={extent}\n"
    ).encode()
