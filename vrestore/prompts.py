"""Prompts over time: which prompt holds for a frame, or which mixture of them while one gives way to the next.

A file of prompts is TOML::

    transition = 1.0                    # seconds over which a prompt gives way to the next; left out: at once

    [[prompt]]
    text = "a street at night"
    from = 0                            # seconds from the first frame on, or "00:01:05.2", or "00:01:05:12" with frames
    to = "00:00:05"                     # left out: to the end

    [[prompt]]
    shot = 2                            # counted from 1; "from" and "to" then count from its first frame
    text = "the same street in snow"

What a shot is told by its number wins over what holds for a time, and that over the prompt of the run.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

from vrestore.errors import ConfigError, MissingInputError

LARGEST_BYTES = 1 << 20
KEYS = ("text", "from", "to", "shot")

Mixture = tuple[tuple[str, float], ...]
"""Prompts of a frame with their weights, each above 0, together 1."""
Line = Fraction | int | float

_TIME = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d+)?)s?")
_WITH_FRAMES = re.compile(r"(\d+):(\d+):(\d+):(\d+)")
_HEADER = re.compile(r"\s*\[\[\s*[\"']?prompt[\"']?\s*\]\]")
_ALLOWED = 'seconds (5.2), a time ("00:01:05.2") or a timecode with frames ("00:01:05:12")'


@dataclass(frozen=True)
class Moment:
    """A time from the first frame on: seconds, and frames at the rate of the video."""

    seconds: Fraction
    frames: int = 0

    def at(self, fps: Fraction) -> Fraction:
        """In seconds."""
        return self.seconds + self.frames / fps


@dataclass(frozen=True)
class Span:
    """A prompt and where it holds, half-open."""

    text: str
    start: Moment = Moment(Fraction(0))
    stop: Moment | None = None
    """None: to the end."""
    shot: int | None = None
    """Counted from 1; times then count from its first frame on. None: any."""
    where: str = ""
    """Its place in a file, for messages."""


class Timeline:
    """Which prompts hold when.

    While one gives way to another, a frame's mixture is what holds on the mean of ``transition`` seconds around it: so
    weights rise and fall linearly and add up to one, as those of overlapping clips do in Wang et al., "Gen-L-Video",
    2023. Nothing is mixed with what holds before a cut.

    Args:
        spans: none of which may overlap another of the same shot.
        default: what holds elsewhere; None: nothing does.
        transition: seconds, 0 or more.
        fps: frames per second of the video, for times that count frames.

    Raises:
        ConfigError: a transition below 0; spans that are empty or overlap.
    """

    def __init__(
        self,
        spans: Sequence[Span] = (),
        default: str | None = None,
        *,
        transition: Line = 0,
        fps: Fraction = Fraction(25),
    ) -> None:
        if not 0 <= transition < float("inf"):
            raise ConfigError(f"transition is {transition}; give 0 or more seconds")
        self._default, self._transition = default, Fraction(transition)
        self._tracks: dict[int | None, list[_Placed]] = {}
        for span in spans:
            placed = _Placed(span, span.start.at(fps), None if span.stop is None else span.stop.at(fps))
            self._tracks.setdefault(span.shot, []).append(placed)
        for track in self._tracks.values():
            track.sort(key=lambda placed: placed.start)
            _check(track)

    @property
    def texts(self) -> tuple[str, ...]:
        """All prompts that can occur, each once."""
        texts = [placed.span.text for track in self._tracks.values() for placed in track]
        return tuple(dict.fromkeys([*([] if self._default is None else [self._default]), *texts]))

    @property
    def everywhere(self) -> bool:
        """Whether a prompt holds at any time, whatever the spans leave out."""
        return self._default is not None

    def at(self, time: Line, shot: int = 1, cut: Line = 0) -> Mixture:
        """The mixture of a frame ``time`` seconds after the first, in a shot (counted from 1) that begins at ``cut``.

        Raises:
            ConfigError: nothing holds there.
        """
        now, begin = Fraction(time), Fraction(cut)
        here = self._hard(now, shot, begin)
        if here is None:
            raise ConfigError(
                f"no prompt holds at {_shown(now)} s, in shot {shot}; give one for that time, or --prompt for all other"
            )
        half = self._transition / 2
        low, high = max(now - half, begin), now + half
        if low >= high:
            return ((here, 1.0),)
        weights: dict[str, Fraction] = {}
        edges = sorted({low, high, *(edge for edge in self._edges(shot, begin) if low < edge < high)})
        for left, right in pairwise(edges):
            text = self._hard(left, shot, begin)
            if text is not None:
                weights[text] = weights.get(text, Fraction(0)) + right - left
        total = sum(weights.values())
        return tuple((text, float(weight / total)) for text, weight in weights.items())

    def _hard(self, now: Fraction, shot: int, cut: Fraction) -> str | None:
        """What holds without transitions."""
        for key, origin in ((shot, cut), (None, Fraction(0))):
            for placed in self._tracks.get(key, ()):
                if placed.start <= now - origin and (placed.stop is None or now - origin < placed.stop):
                    return placed.span.text
        return self._default

    def _edges(self, shot: int, cut: Fraction) -> list[Fraction]:
        """Where something begins or ends to hold."""
        return [
            edge + origin
            for key, origin in ((shot, cut), (None, Fraction(0)))
            for placed in self._tracks.get(key, ())
            for edge in (placed.start, placed.stop)
            if edge is not None
        ]


@dataclass(frozen=True)
class Script:
    """A file of prompts as it was read."""

    spans: tuple[Span, ...]
    transition: Fraction = Fraction(0)

    def timeline(self, default: str | None, fps: Fraction) -> Timeline:
        """For a video of so many frames per second. ConfigError as `Timeline`."""
        return Timeline(self.spans, default, transition=self.transition, fps=fps)


def read_prompts(path: Path) -> Script:
    """A file of prompts.

    Raises:
        MissingInputError: there is no such file.
        ConfigError: what is wrong in it: the line, the value, what is allowed.
    """
    if not path.exists():
        raise MissingInputError(f"{path} does not exist; give a TOML file of prompts")
    try:
        if not path.is_file() or path.stat().st_size > LARGEST_BYTES:
            raise ConfigError(f"{path} is no file of prompts; give a TOML file")
        text = path.read_text(encoding="utf-8")
        content = tomllib.loads(text)
    except ConfigError:
        raise
    except (ValueError, RecursionError) as error:  # tomllib names the line
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    return _Reader(path, text.splitlines()).script(content)


class _Reader:
    """Makes a script of a file's content; its errors name the line."""

    def __init__(self, path: Path, lines: Sequence[str]) -> None:
        self._path, self._lines = path, lines
        self._headers = [i for i, line in enumerate(lines) if _HEADER.match(line)]

    def script(self, content: Mapping[str, Any]) -> Script:
        for key in content:
            if key not in ("transition", "prompt"):
                raise self._error(0, key, f"{key} is no key here; a file has transition and [[prompt]] tables")
        transition, tables = content.get("transition", 0), content.get("prompt", [])
        if not _is_number(transition) or not 0 <= transition < float("inf"):
            raise self._error(0, "transition", f"transition is {transition!r}; give 0 or more seconds")
        if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
            raise ConfigError(f"{self._path} holds no prompts; give at least one [[prompt]] table with a text")
        spans = tuple(self._span(i, table) for i, table in enumerate(tables))
        return Script(spans, Fraction(str(transition)))

    def _span(self, i: int, table: Mapping[str, Any]) -> Span:
        line = self._headers[i] if i < len(self._headers) else 0
        for key in table:
            if key not in KEYS:
                raise self._error(line, key, f"{key} is no key of a prompt; keys are {', '.join(KEYS)}")
        text, shot = table.get("text"), table.get("shot")
        if not isinstance(text, str) or not text.strip():
            raise self._error(line, "text", f"text is {text!r}; give what is to be seen")
        if shot is not None and (not isinstance(shot, int) or isinstance(shot, bool) or shot < 1):
            raise self._error(line, "shot", f"shot is {shot!r}; give a number from 1 on")
        start = self._moment(line, table, "from") or Moment(Fraction(0))
        return Span(text, start, self._moment(line, table, "to"), shot, f"{self._path}, line {line + 1}: ")

    def _moment(self, line: int, table: Mapping[str, Any], key: str) -> Moment | None:
        value = table.get(key)
        found = None if value is None else _moment(value)
        if value is not None and found is None:
            raise self._error(line, key, f"{key} is {value!r}; give {_ALLOWED}")
        return found

    def _error(self, line: int, key: str, message: str) -> ConfigError:
        """Names the line of a key, from the one of its table on, or that of the table."""
        pattern = re.compile(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=")
        after = range(line, min([h for h in self._headers if h > line], default=len(self._lines)))
        found = next((i for i in after if pattern.match(self._lines[i])), line)
        return ConfigError(f"{self._path}, line {found + 1}: {message}")


@dataclass(frozen=True)
class _Placed:
    """A span on the clock."""

    span: Span
    start: Fraction
    stop: Fraction | None


def _check(track: Sequence[_Placed]) -> None:
    """ConfigError for a span of a track (in order) that is empty, or begins before the one before it ends."""
    for placed in track:
        if placed.stop is not None and placed.stop <= placed.start:
            raise ConfigError(
                f"{placed.span.where}the prompt {placed.span.text!r} holds from {_shown(placed.start)} s to "
                f"{_shown(placed.stop)} s; give an end after its start"
            )
    for before, after in pairwise(track):
        if before.stop is None or before.stop > after.start:
            end = "the end" if before.stop is None else f"{_shown(before.stop)} s"
            raise ConfigError(
                f"{after.span.where}the prompt {after.span.text!r} begins at {_shown(after.start)} s, but "
                f"{before.span.text!r} holds to {end}; let one end where the next begins"
            )


def _moment(value: object) -> Moment | None:
    """Of a number of seconds or a text; None if it is no time."""
    if isinstance(value, str):
        if counted := _WITH_FRAMES.fullmatch(value.strip()):
            numbers = [int(part) for part in counted.groups()]
            return Moment(Fraction(3600 * numbers[0] + 60 * numbers[1] + numbers[2]), numbers[3])
        if named := _TIME.fullmatch(value.strip()):
            hours, minutes, rest = named.groups()
            return Moment(3600 * int(hours or 0) + 60 * int(minutes or 0) + Fraction(rest))
        return None
    if _is_number(value) and 0 <= float(str(value)) < float("inf"):
        return Moment(Fraction(str(value)))
    return None


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _shown(seconds: Fraction) -> str:
    return f"{float(seconds):g}"
