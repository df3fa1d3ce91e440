"""Frame blending on real clips: is it counted, and only where it is; what undoing it gains. See README.md."""

import json
from itertools import islice
from pathlib import Path

import click
import numpy as np
import torch

from vrestore.blending import evidence, sampled
from vrestore.degradation import through_h264
from vrestore.exposure import to_light, to_values
from vrestore.luma import psnr_y
from vrestore.unblending import unblended
from vrestore.video import open_reader, probe


@click.command(help=__doc__)
@click.argument("clips", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--counts", default="1,2,3,5,7", show_default=True, help="Frames that are blended.")
@click.option("--frames", default=19, show_default=True, help="Blended frames of a clip.")
@click.option("--start", default=30, show_default=True)
@click.option("--crf", type=int, help="Compress them with H.264 before they are looked at.")
def main(clips: tuple[Path, ...], counts: str, frames: int, start: int, crf: int | None) -> None:
    for clip in clips:
        for count in map(int, counts.split(",")):
            with open_reader(probe(clip)) as reader:
                some = reader.frames(start, start + frames + count - 1)
                truth = [torch.from_numpy(frame.rgb) for frame in islice(some, frames + count - 1)]
            light = [to_light(frame) for frame in truth]
            means = [to_values(sum(light[i : i + count]) / count) for i in range(len(light) - count + 1)]
            seen = [(255 * frame).round() / 255 for frame in means]
            if crf is not None:
                pictures = [(255 * frame).round().byte().permute(1, 2, 0).numpy() for frame in seen]
                seen = [torch.from_numpy(p).permute(2, 0, 1).float() / 255 for p in through_h264(pictures, crf)]
            told = evidence(np.stack([sampled(frame) for frame in seen]))
            row = {"clip": clip.stem, "blended": count, "nats": {n: round(v, 2) for n, v in told.items() if v > 0}}
            if count > 1:
                sharp = torch.stack(truth[count // 2 :][: len(seen)])
                gains = [float(psnr_y(torch.stack(x), sharp)) for x in (seen, list(unblended(iter(seen), count)))]
                row |= {"psnr_y": round(gains[0], 2), "gain_db": round(gains[1] - gains[0], 2)}
            click.echo(json.dumps(row))


if __name__ == "__main__":
    main()
