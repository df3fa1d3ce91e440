"""A picture of what the generation prior makes of some prompts: a row for each, five instants from left to right.

python examples/scenes.py scenes.jpg "red waves at sunset" "a green city at night" [--steps 20] [--frames 16]
"""

import sys

import click
import numpy as np
import torch
from PIL import Image

import vrestore
from vrestore.degradation import to_uint8

SHOWN = 5


@click.command(help=__doc__)
@click.argument("picture")
@click.argument("prompts", nargs=-1, required=True)
@click.option("--frames", default=16, show_default=True)
@click.option("--steps", default=20, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(picture: str, prompts: tuple[str, ...], frames: int, steps: int, seed: int) -> None:
    instants = np.linspace(0, frames - 1, SHOWN).round().astype(int).tolist()
    rows = []
    for prompt in prompts:
        print(prompt, file=sys.stderr)
        head = vrestore.Generation(prompt=prompt, frames=frames, steps=steps, seed=seed)
        made = list(head.stream())
        rows.append(torch.cat([made[n] for n in instants], dim=-1))
    whole = to_uint8(torch.cat(rows, dim=-2)).permute(1, 2, 0).numpy()
    Image.fromarray(whole).save(picture, quality=88)


if __name__ == "__main__":
    main()
