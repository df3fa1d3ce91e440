"""One place for every kind of output: a video, a still, an image sequence, a pipe."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, Unpack, runtime_checkable

from vrestore.errors import ConfigError, OutputError
from vrestore.video.choose import choose_encoding
from vrestore.video.colour import UNSPECIFIED
from vrestore.video.copied import contents
from vrestore.video.encode import Encoding, SegmentWriter
from vrestore.video.files import replacing
from vrestore.video.formats import Formats
from vrestore.video.info import Beside, Rgb, VideoInfo
from vrestore.video.maps import MapEncoding, NotedEncoding, pack
from vrestore.video.mux import Trim, mux
from vrestore.video.pictures import PictureEncoding, PictureSegment, choose_pictures, place
from vrestore.video.sequence import Pattern, sequence_files
from vrestore.video.stills import is_still_name
from vrestore.video.y4m import Y4mWriter, is_pipe

log = logging.getLogger(__name__)

AnyEncoding = Encoding | PictureEncoding


@runtime_checkable
class FrameWriter(Protocol):
    """What takes finished frames."""

    def write(self, rgb: Rgb, pts: int, beside: Beside | None = None) -> None:
        """Takes one frame, with what belongs beside it."""
        ...

    def close(self) -> None:
        """Ends well."""
        ...

    def abort(self) -> None:
        """Gives up; nothing half-done is left."""
        ...


class StillWriter:
    """Writes one picture, which appears when it is complete."""

    def __init__(self, path: Path, encoding: PictureEncoding) -> None:
        self._path, self._encoding = path, encoding

    def write(self, rgb: Rgb, pts: int, beside: Beside | None = None) -> None:
        """The picture."""
        data = self._encoding.encoded(rgb, beside)
        with replacing(self._path) as temporary:
            temporary.write_bytes(data)

    def close(self) -> None:
        """There is nothing left to do."""

    def abort(self) -> None:
        """There is nothing left to do."""


def at_once(output: Path) -> bool:
    """Whether an output has no segments, and no job that could be resumed: a still, or a pipe."""
    return is_pipe(output) or (is_still_name(output) and Pattern.of(output) is None)


def check_output(info: VideoInfo, output: Path, span: tuple[int, int], formats: Formats, *, overwrite: bool) -> None:
    """OutputError if the output cannot be written where it is to be, or is the input."""
    if is_pipe(output):
        return
    pattern = Pattern.of(output)
    files = [output]
    if pattern is not None:
        first = first_number(info, span, formats)
        files = [pattern.file(first + n) for n in range(span[1] - span[0])]
    own = {path.resolve() for path in sequence_files(info)}
    for file in files:
        if file.is_dir() or file.resolve() in own or (file.exists() and _is_one_of(file, info)):
            kind = "a folder" if file.is_dir() else "the input itself"
            raise OutputError(f"{file} is {kind}; name another output with -o")
        if file.exists() and not overwrite:
            raise OutputError(f"{file} exists; remove it, name another output with -o, or allow --overwrite")
    if not output.parent.is_dir():
        raise OutputError(f"the folder {output.parent} does not exist; make it, or name another output with -o")


def output_bytes(output: Path) -> int:
    """Size of what has an output's name: a file, or the pictures of a sequence together; 0 if nothing has."""
    pattern = Pattern.of(output)
    files = [pattern.file(number) for number in pattern.numbers()] if pattern else [output]
    return sum(file.stat().st_size for file in files if file.is_file())


def _is_one_of(file: Path, info: VideoInfo) -> bool:
    return info.numbers is None and file.samefile(info.path)


def first_number(info: VideoInfo, span: tuple[int, int], formats: Formats) -> int:
    """Number of the first frame of an output sequence: as asked, that of the input's frame, or 1."""
    if formats.first_number is not None:
        return formats.first_number
    return 1 if info.numbers is None else info.numbers[0] + span[0]


def choose_output(
    info: VideoInfo, output: Path, size: tuple[int, int], span: tuple[int, int], formats: Formats
) -> AnyEncoding:
    """How the output is encoded.

    Raises:
        ConfigError: what is asked for cannot be, or does not go together.
    """
    pattern = Pattern.of(output)
    if info.chromaticities and info.color.primaries == UNSPECIFIED and output.suffix.lower() != ".exr":
        _warn_of_primaries(info)
    if formats.first_number is not None and pattern is None:
        raise ConfigError(f"first number is for image sequences, and {output} is none; leave it out")
    if pattern is not None:
        pictures = choose_pictures(info, output, size, formats, first_number(info, span, formats))
        _warn_of_streams(info, "pictures do not hold")
        return pictures
    if is_still_name(output):
        frames = span[1] - span[0]
        if frames != 1:
            raise ConfigError(
                f"{output.name} is one picture, but {frames} frames are asked for; name a video or a sequence such as "
                f"{output.stem}.%04d{output.suffix}, or give --start and --end"
            )
        _warn_of_streams(info, "pictures do not hold")
        return choose_pictures(info, output, size, formats, None)
    encoding = choose_encoding(info, output, size, formats)
    if is_pipe(output):
        _warn_of_pipe(info)
    return encoding


def _warn_of_streams(info: VideoInfo, why: str) -> None:
    """Names all of an input but its pictures, for an output of which ``why`` ends in that: "pictures do not hold"."""
    if info.pictures:
        return
    lost = contents(info.path)
    if info.vfr or info.start_pts:
        lost.append("the times of frames")
    if info.hdr and info.hdr.mastering:
        lost.append("mastering display")
    if info.hdr and info.hdr.light:
        lost.append("content light level")
    if lost:
        log.warning("%s: left out, because %s it: %s", info.path, why, ", ".join(lost))


def _warn_of_primaries(info: VideoInfo) -> None:
    log.warning(
        "%s: its primaries (red, green, blue and white at %s in CIE xy) have no code in H.273; only an .exr output is "
        "marked with them", info.path, ", ".join(f"{value:.4f}" for value in info.chromaticities),
    )  # fmt: skip


def _warn_of_pipe(info: VideoInfo) -> None:
    _warn_of_streams(info, "Y4M does not hold")
    if info.vfr:
        log.warning("%s: its frame rate varies; Y4M has one rate, the mean", info.path)
    if info.color.primaries == 9 or info.color.transfer in (16, 18):
        log.warning("%s: Y4M is not tagged with its colours (BT.2020, PQ or HLG); name them to the reader", info.path)


def open_segment(
    path: Path, size: tuple[int, int], encoding: AnyEncoding, info: VideoInfo, first: int
) -> SegmentWriter | PictureSegment:
    """The writer of one piece of the output, whose first frame is the output's frame ``first``."""
    if isinstance(encoding, PictureEncoding):
        return PictureSegment(path, size, encoding, first)
    return SegmentWriter(path, size, encoding, info)


def open_at_once(output: Path, size: tuple[int, int], encoding: AnyEncoding, info: VideoInfo) -> FrameWriter:
    """The writer of an output without segments; see `at_once`."""
    if isinstance(encoding, PictureEncoding):
        return StillWriter(output, encoding)
    return Y4mWriter(size, encoding, info)


def join(segments: Sequence[Path], info: VideoInfo, output: Path, encoding: AnyEncoding, **trim: Unpack[Trim]) -> None:
    """The output from its segments; ``trim`` as for `mux`."""
    if isinstance(encoding, MapEncoding) and encoding.codec == "npz":
        pack(segments, output, encoding)
    elif isinstance(encoding, PictureEncoding):
        place(segments, output, encoding)
    else:
        note = encoding.note if isinstance(encoding, NotedEncoding) else ""
        mux(segments, info, output, note=note, **trim)
