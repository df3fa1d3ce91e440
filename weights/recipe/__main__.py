"""The recipe as commands: `python -m vrestore.weights.recipe pool | train | judge | look`.

pool   DIET DATA POOL          make the training pool of a diet from DATA/stills and DATA/clips
train  POOL RUN                train (or go on), then write the weights in diffusers' layout to RUN/weights
judge  DIET WEIGHTS SEQUENCES  PSNR-Y on folders of real frames
look   DATA                    statistics of the world beside those of photographs and footage

autoencoder POOL RUN           train the autoencoder that the priors for editing and depth share
editing     DATA RUN           train the edit prior on looks of pictures, in the latents of that autoencoder
generation  RUN                train the generation prior on clips of procedural scenes
depth-pool  DATA POOL          render clips of the world with depth
depth       POOL HELD RUN      train the depth prior on them, judged on HELD, a pool of another seed
"""

import json
import logging
from dataclasses import replace
from pathlib import Path

import click
import torch

from vrestore.priors.text import load_tokenizer
from vrestore.weights.recipe import autoencoder as autoencoders
from vrestore.weights.recipe import depth as depths
from vrestore.weights.recipe import editing as editors
from vrestore.weights.recipe import generation as generators
from vrestore.weights.recipe import judge as judging
from vrestore.weights.recipe import statistics
from vrestore.weights.recipe.depth_pool import DepthPoolConfig, build_depth_pool
from vrestore.weights.recipe.diets import DIETS
from vrestore.weights.recipe.export import export, load
from vrestore.weights.recipe.fit import Fit, FitConfig, fit
from vrestore.weights.recipe.mapping import Reader, Telling
from vrestore.weights.recipe.pool import PoolConfig, build_pool, pool_diet
from vrestore.weights.recipe.train import TrainConfig, Trainer, train
from vrestore.weights.recipe.words import write_tokenizer

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


@main.command()
@click.argument("pool", type=click.Path(exists=True, path_type=Path))
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--sequences", type=click.Path(exists=True, path_type=Path), required=True, help="Real frames to judge.")
@click.option("--steps", default=2400, show_default=True)
@click.option("--decay", default=900, show_default=True)
@click.option("--seed", default=0, show_default=True)
def autoencoder(pool: Path, run: Path, sequences: Path, steps: int, decay: int, seed: int) -> None:
    """Train, or go on with what RUN holds; then export to RUN/weights."""
    torch.manual_seed(seed)
    shown = autoencoders.judged_on(sequences)
    config = FitConfig(steps=steps, decay=decay, rate=1.5e-3, ema=0.995, seed=seed)
    model = autoencoders.network().to(memory_format=torch.channels_last)
    started = Fit(model, autoencoders.Rebuilding(pool), run, config)
    best = fit(started, log.info, lambda m: f"{autoencoders.rebuilt_db(m, shown):.2f} dB")
    autoencoders.export(best, run / "weights", shown)


@main.command()
@click.argument("data", type=click.Path(exists=True, path_type=Path))
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--examples", default=8000, show_default=True, help="Pictures in a look, made once.")
@click.option("--steps", default=4000, show_default=True)
@click.option("--decay", default=1500, show_default=True)
@click.option("--seed", default=0, show_default=True)
def editing(data: Path, run: Path, examples: int, steps: int, decay: int, seed: int) -> None:
    """Make the examples if RUN has none, train or go on, then export to RUN/weights."""
    torch.manual_seed(seed)
    if not (run / "examples" / "done").exists():
        vae = editors.shared_autoencoder()
        editors.build_examples(run / "examples", editors.load_pictures(data), vae, examples, seed)
        (run / "examples" / "done").touch()
    tokens = write_tokenizer(run / "weights" / "tokenizer")
    model = editors.Editor(len(tokens))
    telling = Telling(run / "examples", editors.shared_autoencoder())
    first = FitConfig(steps=350, decay=150, rate=2e-3, warmup=30, ema=0.98, seed=seed)
    reader = fit(Fit(Reader(model.controlnet), telling, run / "reader", first), log.info)
    model.controlnet.controlnet_cond_embedding.load_state_dict(reader.look.state_dict())
    rendering = editors.Rendering(run / "examples", load_tokenizer(run / "weights" / "tokenizer"))
    config = FitConfig(steps=steps, decay=decay, rate=1e-3, ema=0.995, seed=seed)
    best = fit(Fit(model, rendering, run, config), log.info)
    editors.export(best, run / "weights")


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--examples", default=2400, show_default=True, help="Clips, rendered once.")
@click.option("--steps", default=4000, show_default=True)
@click.option("--decay", default=1200, show_default=True)
@click.option("--seed", default=0, show_default=True)
def generation(run: Path, examples: int, steps: int, decay: int, seed: int) -> None:
    """Render the clips if RUN has none, train or go on, then export to RUN/weights."""
    torch.manual_seed(seed)
    if not (run / "examples" / "done").exists():
        generators.build_clips(run / "examples", editors.shared_autoencoder(), range(examples), examples, seed)
        (run / "examples" / "done").touch()
    tokens = write_tokenizer(run / "weights" / "tokenizer", generators.vocabulary(), generators.TOKENS)
    model = generators.Generator(len(tokens))
    model.unet.to(memory_format=torch.channels_last)
    showing = generators.Showing(run / "examples", load_tokenizer(run / "weights" / "tokenizer"))
    config = FitConfig(steps=steps, decay=decay, rate=2e-3, ema=0.995, seed=seed)
    generators.export(fit(Fit(model, showing, run, config), log.info), run / "weights")


@main.command("depth-pool")
@click.argument("data", type=click.Path(exists=True, path_type=Path))
@click.argument("pool", type=click.Path(path_type=Path))
@click.option("--clips", default=DepthPoolConfig.clips, show_default=True)
@click.option("--frames", default=DepthPoolConfig.frames, show_default=True)
@click.option("--seed", default=DepthPoolConfig.seed, show_default=True)
def depth_pool(data: Path, pool: Path, clips: int, frames: int, seed: int) -> None:
    """Render the clips, or go on with what POOL holds."""
    build_depth_pool(pool, data, DepthPoolConfig(clips=clips, frames=frames, seed=seed), log.info)


@main.command()
@click.argument("pool", type=click.Path(exists=True, path_type=Path))
@click.argument("held", type=click.Path(exists=True, path_type=Path))
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--steps", default=1000, show_default=True)
@click.option("--decay", default=400, show_default=True)
@click.option("--seed", default=0, show_default=True)
def depth(pool: Path, held: Path, run: Path, steps: int, decay: int, seed: int) -> None:
    """Train, or go on with what RUN holds; then export to RUN/weights."""
    torch.manual_seed(seed)
    vae = editors.shared_autoencoder()
    examples, judges = depths.Examples(pool, run / "examples", vae), depths.Examples(held, run / "held", vae)
    config = FitConfig(steps=steps, decay=decay, rate=1.5e-3, ema=0.99, seed=seed)
    model = depths.DepthNetwork()
    model.unet.to(memory_format=torch.channels_last)
    started = Fit(model, depths.Seeing(examples), run, config)
    best = fit(started, log.info, lambda m: json.dumps(depths.judged(m, judges, vae)))
    depths.export(best, run / "weights")


if __name__ == "__main__":
    main()
