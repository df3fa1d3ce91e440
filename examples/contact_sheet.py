"""A contact sheet of edits: of each clip the source, the map that leads, and a row for every look, at the start, at a
quarter, the middle, three quarters and the end.

python examples/contact_sheet.py sheet.jpg clip.mp4 another.mp4 --look night --look watercolour --set steps=10
"""

import argparse
import sys
import tempfile
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

import vrestore
from vrestore.degradation import to_uint8
from vrestore.video import open_reader, probe

PLACES = (0.0, 0.25, 0.5, 0.75, 1.0)
GAP, LABEL = 3, 16


def shown(path: Path, width: int) -> list[Image.Image]:
    """The pictures of a video at the `PLACES`, so wide."""
    last, found = probe(path).frames - 1, []
    for place in PLACES:
        at = round(place * last)
        with open_reader(path) as reader:
            frame = torch.from_numpy(next(iter(reader.frames(at, at + 1))).rgb)
        picture = Image.fromarray(np.ascontiguousarray(to_uint8(frame).permute(1, 2, 0).numpy()))
        found.append(picture.resize((width, round(picture.height * width / picture.width)), Image.Resampling.LANCZOS))
    return found


def rows_of(clip: Path, looks: list[str], width: int, settings: dict[str, object]) -> list[tuple[str, list]]:
    """Names and pictures: the source, its maps and its edits."""
    edits: list[tuple[str, list]] = []
    maps: list[tuple[str, list]] = []
    with tempfile.TemporaryDirectory() as work:
        for number, look in enumerate(looks):
            made = vrestore.edit(clip, Path(work) / f"{number}.mkv", **settings | {"prompt": look}, save_control=True)
            edits.append((look, shown(Path(made.output), width)))
            maps = [(name, shown(Path(path), width)) for name, path in made.beside.items()]
            print(f"{clip.name}: {look}, {made.frames} frames in {made.seconds:.0f} s", flush=True)
    return [(clip.stem, shown(clip, width)), *maps, *edits]


def sheet(clips: list[list[tuple[str, list]]], width: int) -> Image.Image:
    """All rows below one another."""
    rows = [row for clip in clips for row in clip]
    heights = [LABEL + pictures[0].height + GAP for _, pictures in rows]
    page = Image.new("RGB", (len(PLACES) * (width + GAP) - GAP, sum(heights)), "white")
    pen, top = ImageDraw.Draw(page), 0
    for (name, pictures), height in zip(rows, heights, strict=True):
        pen.text((2, top + 2), name, fill="black", font=ImageFont.load_default(11))
        for column, picture in enumerate(pictures):
            page.paste(picture, (column * (width + GAP), top + LABEL))
        top += height
    return page


def value_of(text: str) -> object:
    """A setting as it is meant: a number where it looks like one."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--look", action="append", required=True, help="a prompt; more than one may be given")
    parser.add_argument("--width", type=int, default=150, help="of a picture, in pixels")
    parser.add_argument("--quality", type=int, default=80, help="of a JPEG")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="of vrestore.EditingConfig")
    told = parser.parse_args()
    settings = {name: value_of(value) for name, _, value in (one.partition("=") for one in told.set)}
    known = {one.name for one in fields(vrestore.EditingConfig)}
    if not settings.keys() <= known:
        parser.error(f"no such settings: {', '.join(settings.keys() - known)}; there are {', '.join(sorted(known))}")
    page = sheet([rows_of(clip, told.look, told.width, settings) for clip in told.clips], told.width)
    page.save(told.output, quality=told.quality)
    print(f"{told.output}: {page.width}x{page.height}")


if __name__ == "__main__":
    try:
        main()
    except vrestore.VRestoreError as error:  # its message says what was wrong and what to do
        sys.exit(f"{error}")
