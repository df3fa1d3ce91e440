"""The recipe as commands: `python -m vrestore.weights.recipe pool | train | judge | look`.

pool   DIET DATA POOL          make the training pool of a diet from DATA/stills and DATA/clips
train  POOL RUN                train (or go on), then write the weights in diffusers' layout to RUN/weights
judge  DIET WEIGHTS SEQUENCES  PSNR-Y on folders of real frames
look   DATA                    statistics of the world beside those of photographs and footage
"""

import json
import logging
from dataclasses import replace
from pathlib import Path

import click
import torch

from vrestore.weights.recipe import judge as judging
from vrestore.weights.recipe import statistics
from vrestore.weights.recipe.diets import DIETS
from vrestore.weights.recipe.export import export, load
from vrestore.weights.recipe.pool import PoolConfig, build_pool, pool_diet
from vrestore.weights.recipe.train import TrainConfig, Trainer, train

log = logging.getLogger("vrestore.recipe")
FRAMES, SIZE = 7, (256, 448)
DIET = click.Choice(list(DIETS))


@click.group(help=__doc__)
@click.option("--threads", default=2, show_default=True, help="CPU threads of the training process.")
def main(threads: int) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(threads)


@main.command()
@click.argument("diet", type=DIET)
@click.argument("data", type=click.Path(exists=True, path_type=Path))
@click.argument("pool", type=click.Path(path_type=Path))
@click.option("--clips", default=PoolConfig.clips, show_default=True)
@click.option("--size", default=PoolConfig.size, show_default=True, help="Side of the clips, in pixels.")
@click.option("--seed", default=PoolConfig.seed, show_default=True)
@click.option("--jobs", default=2, show_default=True)
def pool(diet: str, data: Path, pool: Path, clips: int, size: int, seed: int, jobs: int) -> None:
    """Render and degrade the training pool."""
    build_pool(pool, data, DIETS[diet], PoolConfig(clips=clips, size=size, seed=seed), jobs, log.info)


@main.command("train")
@click.argument("pool", type=click.Path(exists=True, path_type=Path))
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--sequences", type=click.Path(exists=True, path_type=Path), help="Folders of real frames to judge on.")
@click.option("--steps", default=TrainConfig.steps, show_default=True)
@click.option("--decay", default=TrainConfig.decay, show_default=True)
@click.option("--seed", default=TrainConfig.seed, show_default=True)
@click.option("--clean", default=TrainConfig.clean, show_default=True, help="Share of clips reduced cleanly.")
@click.option("--start", type=click.Path(exists=True, path_type=Path), help="Weights to start from; else none.")
@click.option("--device", default="cpu", show_default=True)
def train_command(
    pool: Path,
    run: Path,
    sequences: Path | None,
    start: Path | None,
    steps: int,
    decay: int,
    seed: int,
    clean: float,
    device: str,
) -> None:
    """Train, or go on with what RUN holds; then export."""
    clips = judging.load_sequences(sequences, FRAMES, SIZE) if sequences else {}
    diet = DIETS[pool_diet(pool)]
    tests = diet.tests(clips)
    at_end = min(clean, TrainConfig.clean_at_end)
    config = replace(TrainConfig(), steps=steps, decay=decay, seed=seed, clean=clean, clean_at_end=at_end)
    if start is None:
        trainer = Trainer(pool, run, config, device)
    else:
        trainer = Trainer(pool, run, replace(config, opening=0), device, lambda: load(start).train())
    log.info("from step %d", trainer.step)
    model = train(trainer, log.info, lambda m: judging.judge(m, tests))
    export(model, run / "weights", diet.family)


@main.command("judge")
@click.argument("diet", type=DIET)
@click.argument("weights", type=click.Path(exists=True, path_type=Path))
@click.argument("sequences", type=click.Path(exists=True, path_type=Path))
def judge_command(diet: str, weights: Path, sequences: Path) -> None:
    """PSNR-Y of one step on folders of real frames."""
    tests = DIETS[diet].tests(judging.load_sequences(sequences, FRAMES, SIZE))
    click.echo(json.dumps({"psnr_y": judging.judge(load(weights), tests)}))


@main.command()
@click.argument("data", type=click.Path(exists=True, path_type=Path))
@click.option("--clips", default=150, show_default=True)
@click.option("--size", default=128, show_default=True)
@click.option("--seed", default=0, show_default=True)
def look(data: Path, clips: int, size: int, seed: int) -> None:
    """Statistics of the world beside those of photographs and footage."""
    click.echo(statistics.table(statistics.compare(data, clips, size, seed)))


if __name__ == "__main__":
    main()
