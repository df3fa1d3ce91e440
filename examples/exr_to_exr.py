"""A sequence of EXR frames (scene-linear) to one of twice the size; light above 1 is carried.

python examples/exr_to_exr.py plates/shot.%04d.exr out/shot.%04d.exr
"""

import sys
from pathlib import Path

import vrestore


def main(source: str, output: str) -> None:
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    options = vrestore.RunOptions(formats=vrestore.Formats(fps="24"))
    result = vrestore.super_resolve(source, output, scale=2, options=options)
    print(f"{result.frames} frames, consistent with the plates to {result.consistency_psnr_db:.1f} dB")


if __name__ == "__main__":
    main(*sys.argv[1:])
