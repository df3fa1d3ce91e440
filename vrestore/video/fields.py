"""Interlaced video: how it is told from progressive video, and how whole pictures are made of its fields.

A video counts as interlaced if the parameters of its codec or the flags of its first frames say so, and its pictures do
not say otherwise. Much progressive video is flagged carelessly (25 and 30 fps broadcasts, editing programs), so what is
flagged is looked at: FFmpeg's ``idet`` judges frames at four places, and if it finds motion without combing (20
progressive frames or more for every combed one), the flag is overruled. Where nothing moves the flag stands. What is
not flagged is not looked at.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import av.filter
from av.video.frame import VideoFrame

from vrestore.errors import UnreadableMediaError
from vrestore.video.info import Fields
from vrestore.video.source import open_container, reading, video_stream

TimedFrame = tuple[int, int, VideoFrame]
"""Index, time in units of the video's time base, and the decoded frame."""

FLAGS_OF = 8
"""Frames at the beginning whose flags count: a stream may start with a progressive picture."""
_PLACES = (0.0, 0.25, 0.5, 0.75)
_JUDGED = 24
"""Frames that are judged at each place."""
_CLEAN_TO_COMBED = 20
# AVFieldOrder: TT, BB, TB (coded top, shown bottom first), BT
_SHOWN_FIRST: dict[int, Fields] = {2: "top", 3: "bottom", 4: "bottom", 5: "top"}
_BWDIF = {
    "none": "parity=auto:deint=all",
    "frames": "parity=auto:deint=interlaced",
    "top": "parity=tff:deint=all",
    "bottom": "parity=bff:deint=all",
}


def flagged(field_order: int, frames: Iterable[bool]) -> Fields:
    """What the codec's ``field_order`` (an AVFieldOrder) and the flags of the first frames say."""
    return "frames" if any(frames) else _SHOWN_FIRST.get(field_order, "none")


def looks_progressive(path: Path) -> bool:
    """Whether the pictures of a video move without combing: see the rule above."""
    clean = combed = 0
    for place in _PLACES:
        verdicts = _judged(path, place)
        clean += verdicts.get("progressive", 0)
        combed += verdicts.get("tff", 0) + verdicts.get("bff", 0)
    return clean > 0 and clean >= _CLEAN_TO_COMBED * combed


def _judged(path: Path, place: float) -> dict[str, int]:
    """Counts of idet's verdicts (progressive, tff, bff, undetermined) from a place (0 to 1) in the file on."""
    with open_container(path) as container:
        stream = video_stream(container, path)
        if place and container.duration:
            try:
                container.seek(int(container.duration * place) + (container.start_time or 0))
            except av.error.FFmpegError:
                return {}
        found: dict[str, int] = {}
        numbered = ((i, i, frame) for i, frame in enumerate(islice(container.decode(stream), _JUDGED)))
        try:
            for _, _, frame in _filtered(numbered, "idet", "", path):
                verdict = frame.metadata.get("lavfi.idet.multiple.current_frame", "undetermined")
                found[verdict] = found.get(verdict, 0) + 1
        except (av.error.FFmpegError, UnreadableMediaError):
            return found  # damage is reported where it matters, by the reader
        return found


def deinterlaced(frames: Iterable[TimedFrame], fields: Fields, path: Path) -> Iterator[TimedFrame]:
    """Whole pictures at the rate of the frames, by FFmpeg's ``bwdif``: one for each, at its time.

    A picture comes of its frame and the two neighbours; where the first or last of ``frames`` has a neighbour in the
    file, give that too and drop what comes of it.

    Raises:
        UnreadableMediaError: the frames cannot be filtered.
    """
    yield from _filtered(frames, "bwdif", f"mode=send_frame:{_BWDIF[fields]}", path)


def _filtered(frames: Iterable[TimedFrame], name: str, settings: str, path: Path) -> Iterator[TimedFrame]:
    """Frames through a filter that gives one for each."""
    waiting: deque[tuple[int, int]] = deque()
    graph: av.filter.Graph | None = None
    for index, pts, frame in frames:
        with reading(path):
            if graph is None:
                graph = av.filter.Graph()
                source = graph.add_buffer(
                    width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1)
                )
                graph.link_nodes(source, graph.add(name, settings), graph.add("buffersink"))
                graph.configure()
            waiting.append((index, pts))
            frame.pts, frame.time_base = index, Fraction(1)
            graph.push(frame)
        yield from _pulled(graph, waiting)
    if graph is not None:
        graph.push(None)
        yield from _pulled(graph, waiting)
    if waiting:
        raise UnreadableMediaError(f"{path} cannot be deinterlaced: {len(waiting)} frames got lost; end before them")


def _pulled(graph: av.filter.Graph, waiting: deque[tuple[int, int]]) -> Iterator[TimedFrame]:
    while waiting:
        try:
            frame = graph.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        yield *waiting.popleft(), frame
