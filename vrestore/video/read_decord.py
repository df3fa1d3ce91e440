"""The fast reader: decord, for sequential reading of short, plain 8-bit video by a consumer that keeps up.

decord decodes ahead without bound (measured at 720p: 2 GB after 3,000 frames, though the consumer kept up), gives 8-bit
RGB only, converts untagged video as BT.601, and is wrong on narrow pictures, on edit lists and on random access to open
groups of pictures. `decord_is_right` keeps it away from those, and from videos that exceed its memory bound.
"""

import logging
from collections.abc import Iterator

import decord
import numpy as np

from vrestore.errors import UnreadableMediaError
from vrestore.video.colour import BT601, default_matrix
from vrestore.video.info import DecodedFrame, VideoInfo
from vrestore.video.read import PyavReader

log = logging.getLogger(__name__)
decord.logging.set_level(decord.logging.QUIET)

_CODECS = ("h264", "vp9")
_FORMATS = ("yuv420p",)
_HDR_TRANSFERS = (16, 18)
_NARROWEST = 64
"""Pixels. decord takes the bytes that pad a row (to 64) for more channels once they are as many as its pixels."""
_MEMORY_BOUND = 256 * 2**20
"""Bytes of decoded frames that decord may hold: all of a video that it is given."""


def decord_is_right(info: VideoInfo) -> bool:
    """Whether decord gives the frames, times and colours of this video."""
    tagged = info.color.matrix in (1, 5, 6) or default_matrix(info.height, info.width) == BT601
    plain = info.codec in _CODECS and info.pix_fmt in _FORMATS and info.color.range != 2
    exact = (
        not (info.is_still or info.edit_list or info.rotation or info.deinterlace)
        and info.seekable
        and info.clock == "frames"
    )
    fits = info.width >= _NARROWEST and info.frames * info.height * info.width * 3 <= _MEMORY_BOUND
    return tagged and plain and exact and fits and info.color.transfer not in _HDR_TRANSFERS


class DecordReader(PyavReader):
    """Reads with decord from frame 0 on; any other start is left to PyAV, which seeks exactly."""

    def _frames(self, start: int, stop: int) -> Iterator[DecodedFrame]:
        video = self._opened() if start == 0 else None
        if video is None:
            yield from super()._frames(start, stop)
            return
        for index, pts in zip(range(stop), self._packet_times(), strict=False):
            try:
                pixels = video.next().asnumpy()
            except (decord.DECORDError, StopIteration) as error:
                raise UnreadableMediaError(f"{self.info.path} is damaged at frame {index}") from error
            planes = np.ascontiguousarray(pixels.transpose(2, 0, 1))
            yield DecodedFrame(index, pts, planes.astype(np.float32) / np.float32(255))

    def _opened(self) -> decord.VideoReader | None:
        try:
            video = decord.VideoReader(str(self.info.path), ctx=decord.cpu(0), num_threads=0)
        except (decord.DECORDError, RuntimeError) as error:
            log.debug("%s: decord cannot open it (%s)", self.info.path, error)
            return None
        return video if len(video) == self.info.frames else None
