"""Restore two seconds of a clip to ProRes for the edit, and say how far it is.

python examples/one_clip.py in.mov out.mov
"""

import sys

import vrestore


def show(now: vrestore.Progress) -> None:
    """Called after every finished frame."""
    print(f"\r{now.done} of {now.total} frames, {now.elapsed_s:.0f} s", end="", file=sys.stderr, flush=True)


def main(source: str, output: str) -> None:
    options = vrestore.RunOptions(
        start="0", end="2s", resume=True, progress=show, formats=vrestore.Formats(codec="prores")
    )
    result = vrestore.super_resolve(source, output, scale=2, options=options)
    print(f"\n{result.output}: {result.width}x{result.height}, {result.frames} frames")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except vrestore.VRestoreError as error:  # its message says what was wrong and what to do
        sys.exit(f"{error}")
