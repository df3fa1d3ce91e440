"""Pictures as output: how a still or the frames of a sequence are encoded, and the segments of a sequence."""

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from vrestore.errors import ConfigError, OutputError
from vrestore.video.colour import UNSPECIFIED
from vrestore.video.encode import output_aspect
from vrestore.video.exr import PRIMARIES, Marks
from vrestore.video.files import replacing
from vrestore.video.formats import Formats
from vrestore.video.info import Beside, ColorTags, Outside, Rgb, VideoInfo
from vrestore.video.planes import has_alpha
from vrestore.video.png import colour_chunks, with_chunks
from vrestore.video.sequence import Pattern
from vrestore.video.stills import STILL_SUFFIXES, still_bytes
from vrestore.video.transfer import transfer_of

log = logging.getLogger(__name__)

_PLAIN = Beside()
_DEEP = ("rgb24", "rgba", "rgb48le", "rgba64le")
_FORMATS = {
    ".png": _DEEP, ".tif": _DEEP, ".tiff": _DEEP, ".webp": ("rgb24", "rgba"), ".jpg": ("rgb24",), ".jpeg": ("rgb24",),
    ".bmp": ("rgb24",), ".exr": ("gbrpf16le", "gbrapf16le", "gbrpf32le", "gbrapf32le"),
}  # fmt: skip
_LOSSY = (".jpg", ".jpeg", ".webp")
_WIDE_PRIMARIES, _HDR_TRANSFERS = (9, 11, 12), (16, 18)


@dataclass(frozen=True)
class PictureEncoding:
    """How pictures are encoded. All of one output share one."""

    codec: str
    """The suffix, without its point."""
    pix_fmt: str
    """rgb24, rgba, rgb48le, rgba64le; gbrpf16le and gbrapf16le are halves, gbrpf32le and gbrapf32le floats."""
    transfer: int
    """Of .exr: the curve by which samples become linear light."""
    first_number: int | None = None
    """Of a sequence: the number of its first frame."""
    marks: Marks = field(default_factory=Marks)
    """Of .exr: what its header says."""
    color: ColorTags = field(default_factory=ColorTags)
    """Of .png: what it is tagged with."""

    @property
    def lossless(self) -> bool:
        """Whether samples come back as they were written."""
        return f".{self.codec}" not in _LOSSY

    @property
    def outside(self) -> Outside:
        """What is written of what lies outside of [0, 1]."""
        return "all" if self.codec == "exr" else "none"

    def encoded(self, rgb: Rgb, beside: Beside | None) -> bytes:
        """A file of one picture; OutputError if it cannot be made."""
        suffix, around = f".{self.codec}", beside or _PLAIN
        data = still_bytes(rgb, suffix, self.pix_fmt, transfer=self.transfer, beside=around, marks=self.marks)
        return with_chunks(data, colour_chunks(self.color)) if suffix == ".png" else data


def choose_pictures(
    info: VideoInfo, output: Path, size: tuple[int, int], formats: Formats, first_number: int | None
) -> PictureEncoding:
    """How a picture of ``size`` (height, width), or a sequence (``first_number``: its first frame's), is encoded.

    PNG and TIFF get 8 bits where the input has 8, else 16; EXR halves, or floats where the input has those; alpha is
    carried.

    Raises:
        ConfigError: a kind of picture that is not written, or a combination that cannot be.
    """
    suffix = output.suffix.lower()
    if suffix not in _FORMATS:
        raise ConfigError(
            f"pictures {suffix or '(without suffix)'} are not written; choose {', '.join(STILL_SUFFIXES)}"
        )
    if formats.codec or formats.crf is not None or formats.encoder_args:
        raise ConfigError(
            f"{output.name} is a picture: codec, crf and encoder arguments are for videos; leave them out"
        )
    alpha = formats.alpha and has_alpha(info.pix_fmt)
    allowed = [pix_fmt for pix_fmt in _FORMATS[suffix] if has_alpha(pix_fmt) == alpha]
    if not allowed:
        raise ConfigError(
            f"{info.path} has alpha, which {suffix} does not hold; write .png, .tif, .webp or .exr, or drop it with "
            "--no-alpha"
        )
    deep = info.bit_depth > (16 if suffix == ".exr" else 8)
    pix_fmt = allowed[-1 if deep else 0]
    if formats.pix_fmt is not None:
        named = {name: one for one in allowed for name in (one, one.removesuffix("le"))}
        if formats.pix_fmt not in named:
            of = "with alpha (or drop it with --no-alpha)" if alpha else "without alpha"
            raise ConfigError(
                f"pixel format {formats.pix_fmt} is not one of {suffix} {of}; choose one of {', '.join(allowed)}"
            )
        pix_fmt = named[formats.pix_fmt]
    aspect = output_aspect(info, size)
    _warn(info, suffix, alpha, aspect)
    if suffix == ".png":
        return PictureEncoding("png", pix_fmt, 0, first_number, color=info.color)
    if suffix != ".exr":
        return PictureEncoding(suffix[1:], pix_fmt, 0, first_number)
    primaries = info.chromaticities if info.linear else PRIMARIES.get(info.color.primaries, ())
    return PictureEncoding(suffix[1:], pix_fmt, transfer_of(info), first_number, Marks(primaries, aspect))


def _warn(info: VideoInfo, suffix: str, alpha: bool, aspect: Fraction) -> None:
    """Says what pictures do not hold of the input."""
    if suffix == ".exr":
        if info.color.primaries not in (UNSPECIFIED, *PRIMARIES):
            log.warning("%s: its primaries, %d of H.273, are not written to .exr", info.path, info.color.primaries)
    elif suffix != ".png" and (info.color.primaries in _WIDE_PRIMARIES or info.color.transfer in _HDR_TRANSFERS):
        log.warning(
            "%s: pictures are not tagged with its colours (primaries %d, transfer %d of H.273); name them where the "
            "pictures are read", info.path, info.color.primaries, info.color.transfer,
        )  # fmt: skip
    if aspect != 1 and suffix != ".exr":
        log.warning("%s: pictures are not marked with the shape of their pixels, %s", info.path, aspect)
    if alpha and info.linear != (suffix == ".exr"):
        log.warning(
            "%s: colours and alpha stay as they are; .exr is taken to be premultiplied, other pictures are not",
            info.path,
        )


class PictureSegment:
    """Some frames of a sequence in the job folder; they get their names at the very end (see `place`).

    Same interface as `SegmentWriter`. The pictures lie beside ``path``, a list of them, which appears when all of them
    are on disk.

    Args:
        path: the segment's file.
        size: (height, width) of every frame.
        encoding: the same for all segments of an output.
        first: position of the segment's first frame in the output, from 0.
    """

    def __init__(self, path: Path, size: tuple[int, int], encoding: PictureEncoding, first: int) -> None:
        self.path = path.with_suffix(".json")
        self._size, self._encoding, self._first = size, encoding, first
        self._files: list[Path] = []

    @property
    def frames(self) -> int:
        """Frames written so far."""
        return len(self._files)

    def write(self, rgb: Rgb, pts: int, beside: Beside | None = None) -> None:
        """Encodes one frame; times do not count. OutputError if its size is wrong or it cannot be written."""
        if rgb.shape[1:] != self._size:
            raise OutputError(f"a frame of {rgb.shape[2]}x{rgb.shape[1]} does not fit {self._size[1]}x{self._size[0]}")
        file = self.path.with_name(f"{self._first + self.frames:08d}.{self._encoding.codec}")
        data = self._encoding.encoded(rgb, beside)
        self._files.append(file)
        try:
            file.write_bytes(data)
        except OSError as error:
            self.abort()
            raise OutputError(f"{file} cannot be written: {error.strerror or error}") from error

    def close(self) -> None:
        """Ends the segment. OutputError if it cannot be finished."""
        try:
            for file in self._files:
                with file.open("rb") as written:
                    os.fsync(written.fileno())
            with replacing(self.path) as temporary:
                temporary.write_text(json.dumps([file.name for file in self._files]))
        except OSError as error:
            self.abort()
            raise OutputError(f"{self.path} cannot be written: {error.strerror or error}") from error

    def abort(self) -> None:
        """Gives up; nothing is left of the segment."""
        for file in self._files:
            file.unlink(missing_ok=True)
        self._files.clear()


def place(segments: Sequence[Path], output: Path, encoding: PictureEncoding) -> None:
    """Moves the pictures of all segments to their names, one by one; what was moved before (and killed) stays.

    Raises:
        OutputError: a picture is missing, or cannot be moved.
    """
    pattern, first = Pattern.of(output), encoding.first_number
    if pattern is None or first is None:
        raise ConfigError(f"{output} is not a pattern such as out.%04d.png")
    moved = set()
    for segment in segments:
        for name in json.loads(segment.read_text()):
            picture, number = segment.with_name(name), first + int(Path(name).stem)
            target = pattern.file(number)
            moved.add(number)
            try:
                picture.replace(target)
            except FileNotFoundError as error:
                if not target.is_file():
                    raise OutputError(f"{picture} is missing; start anew, without --resume") from error
            except OSError as error:
                raise OutputError(f"{target} cannot be written: {error.strerror or error}") from error
    others = [number for number in pattern.numbers() if number not in moved]
    if others:
        log.warning("%s: %d pictures with other numbers were there before and stay", output, len(others))
