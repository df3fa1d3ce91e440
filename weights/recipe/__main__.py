"""The recipe as commands: `python -m vrestore.weights.recipe pool | train | judge | look ...`.

\b
pool   DIET DATA POOL          make the training pool of a diet from DATA/stills and DATA/clips
train  POOL RUN                train (or go on), then write the weights in diffusers' layout to RUN/weights
judge  DIET WEIGHTS SEQUENCES  PSNR-Y on folders of real frames
look   DATA                    statistics of the world beside those of photographs and footage

\b
autoencoder POOL RUN           train the autoencoder that the priors for editing and depth share
editing     DATA RUN           train the edit prior on looks of pictures, in the latents of that autoencoder
motion      POOL EDITOR RUN    train the motion modules of an edit prior on clips of a pool
generation  RUN                train the generation prior on clips of procedural scenes
depth-pool  DATA POOL          render clips of the world with depth
depth       POOL HELD RUN      train the depth prior on them, judged on HELD, a pool of another seed
evidence    DATA POOL          render more, and keep what a depth prior and the motion say of them
completion  POOL HELD RUN      train the network that completes depth from that

\b
pack   DATA PACKED             a small copy of DATA, for a machine to which little can be sent

A training goes on where RUN was left.
"""

import json
import logging
from dataclasses import replace
from functools import partial
from pathlib import Path

import click
import torch

from vrestore.errors import ConfigError
from vrestore.priors.text import load_tokenizer
from vrestore.weights.recipe import autoencoder as autoencoders
from vrestore.weights.recipe import editing as editors
from vrestore.weights.recipe import generation as generators
from vrestore.weights.recipe import judge as judging
from vrestore.weights.recipe import moving, statistics
from vrestore.weights.recipe.arrays import diet_of
from vrestore.weights.recipe.depth_commands import completion, depth, depth_pool, evidence
from vrestore.weights.recipe.diets import DIETS
from vrestore.weights.recipe.examples import Clips, Pictures, build_examples
from vrestore.weights.recipe.export import export, load
from vrestore.weights.recipe.fit import Fit, FitConfig, fit
from vrestore.weights.recipe.machine import training_device
from vrestore.weights.recipe.mapping import Reader, Telling
from vrestore.weights.recipe.options import FOLDER, THERE, Commands, device, jobs, seed, training
from vrestore.weights.recipe.pack import pack
from vrestore.weights.recipe.pointing import POINTED, Pointing, build_things
from vrestore.weights.recipe.pool import PoolConfig, build_pool
from vrestore.weights.recipe.train import Restorer, TrainConfig, decoding, guided, restoring
from vrestore.weights.recipe.words import write_tokenizer

log = logging.getLogger("vrestore.recipe")
DIET = click.Choice(list(DIETS))


@click.group(help=__doc__, cls=Commands)
@click.option("--threads", default=2, show_default=True, help="CPU threads of the training process.")
def main(threads: int) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(threads)


@main.command()
@click.argument("diet", type=DIET)
@click.argument("data", type=THERE)
@click.argument("pool", type=FOLDER)
@click.option("--clips", default=PoolConfig.clips, show_default=True)
@click.option("--size", default=PoolConfig.size, show_default=True, help="Side of the clips, in pixels.")
@click.option("--frames", default=PoolConfig.frames, show_default=True, help="Of a clip.")
@seed
@jobs
def pool(diet: str, data: Path, pool: Path, clips: int, size: int, frames: int, seed: int, jobs: int) -> None:
    """Render and degrade the training pool."""
    config = PoolConfig(clips=clips, size=size, frames=frames, seed=seed)
    build_pool(pool, data, DIETS[diet], config, jobs, log.info)


@main.command("pack")
@click.argument("data", type=THERE)
@click.argument("packed", type=FOLDER)
@click.option("--mib", default=50.0, show_default=True, help="Most that the copy may take.")
@click.option("--sequences", type=THERE, help="Folders of real frames to judge on: go along.")
def pack_command(data: Path, packed: Path, mib: float, sequences: Path | None) -> None:
    """Copy DATA/stills and DATA/clips, smaller and shorter, so that pools can be made of PACKED."""
    pack(data, packed, mib, log.info, sequences)


@main.command("train")
@click.argument("pool", type=THERE)
@click.argument("run", type=FOLDER)
@click.option("--sequences", type=THERE, help="Folders of real frames to judge on.")
@click.option("--start", type=THERE, help="Weights to start from; else none.")
@training(TrainConfig())
@device
def train_command(
    pool: Path, run: Path, sequences: Path | None, start: Path | None, config: TrainConfig, device: str
) -> None:
    """Train, or go on with what RUN holds; then export."""
    diet = DIETS[diet_of(pool, DIETS)]
    tests = diet.tests(judging.load_sequences(sequences) if sequences else {})
    config = replace(config, clean_at_end=min(config.clean, config.clean_at_end))
    if config.guided and (start is None or diet.family == "InterpolationPrior"):
        raise ConfigError("guided is given, which goes on from --start with clips of neighbouring frames; leave it out")
    if config.shared and (start is None or config.guided):
        raise ConfigError("shared is given, which goes on from --start and has no guide; give --start, not --guided")
    if start is None:
        started = restoring(pool, run, config, training_device(device))
    else:
        config = replace(config, opening=0)
        begun = load(start).train()
        grown = partial(guided, decoder_blocks=config.decoder_blocks, guide_depth=config.guide_depth)
        change = grown if config.guided else decoding if config.shared else Restorer.train
        if diet.family == "InterpolationPrior":  # it looks at two frames, and has nothing to tell a guide
            begun.guide = None
        started = restoring(pool, run, config, training_device(device), lambda: change(begun))
    log.info("from step %d", started.step)
    model = fit(started, log.info, lambda m: judging.judge(m, tests))
    export(model, run / "weights", diet.family, config.shared)


@main.command("judge")
@click.argument("diet", type=DIET)
@click.argument("weights", type=THERE)
@click.argument("sequences", type=THERE)
@device
def judge_command(diet: str, weights: Path, sequences: Path, device: str) -> None:
    """PSNR-Y of one step on folders of real frames."""
    tests = DIETS[diet].tests(judging.load_sequences(sequences))
    click.echo(json.dumps({"psnr_y": judging.judge(load(weights).to(training_device(device)), tests)}))


@main.command()
@click.argument("data", type=THERE)
@click.option("--clips", default=150, show_default=True)
@click.option("--size", default=128, show_default=True)
@seed
def look(data: Path, clips: int, size: int, seed: int) -> None:
    """Statistics of the world beside those of photographs and footage."""
    click.echo(statistics.table(statistics.compare(data, clips, size, seed)))


@main.command()
@click.argument("pool", type=THERE)
@click.argument("run", type=FOLDER)
@click.option("--sequences", type=THERE, required=True, help="Real frames to judge.")
@training(FitConfig(steps=2400, decay=900, rate=1.5e-3, ema=0.995, batch=autoencoders.PICTURES))
@device
def autoencoder(pool: Path, run: Path, sequences: Path, config: FitConfig, device: str) -> None:
    """Train, or go on with what RUN holds; then export to RUN/weights."""
    torch.manual_seed(config.seed)
    shown = autoencoders.judged_on(sequences)
    model = autoencoders.network().to(memory_format=torch.channels_last)
    rebuilding = autoencoders.Rebuilding(pool, config.batch)
    started = Fit(model, rebuilding, run, config, training_device(device))
    best = fit(started, log.info, lambda m: f"{autoencoders.rebuilt_db(m, shown):.2f} dB")
    autoencoders.export(best, run / "weights", shown)


@main.command()
@click.argument("data", type=THERE)
@click.argument("run", type=FOLDER)
@click.option("--examples", default=8000, show_default=True, help="Pictures in a look, made once.")
@click.option("--start", type=THERE, help="Weights of an edit prior to go on from.")
@training(FitConfig(steps=4000, decay=1500, rate=1e-3, ema=0.995, batch=editors.PICTURES))
@jobs
@device
def editing(
    data: Path, run: Path, examples: int, start: Path | None, config: FitConfig, jobs: int, device: str
) -> None:
    """Make the examples if RUN has none, train or go on, then export to RUN/weights."""
    torch.manual_seed(config.seed)
    place, done = training_device(device), run / "examples" / "done"
    vae = editors.shared_autoencoder(place)
    if not done.exists():
        build_examples(run / "examples", (Pictures, data), vae, examples, config.seed, jobs)
        build_things(run / "examples", data, vae, max(POINTED, examples // 4), config.seed, jobs)
        done.touch()
    tokens = write_tokenizer(run / "weights" / "tokenizer")
    if start is None:
        model = editors.Editor(len(tokens))
        telling = Telling(run / "examples", vae, config.batch)
        first = FitConfig(steps=350, decay=150, rate=2e-3, warmup=30, ema=0.98, seed=config.seed, batch=config.batch)
        reader = fit(Fit(Reader(model.controlnet), telling, run / "reader", first, place), log.info)
        model.controlnet.controlnet_cond_embedding.load_state_dict(reader.look.state_dict())
    else:
        model = editors.load(start, tokens)
    tokenizer = load_tokenizer(run / "weights" / "tokenizer")
    pointing = Pointing(run / "examples", tokenizer, config.batch)
    editors.export(fit(Fit(model, pointing, run, config, place), log.info), run / "weights")


@main.command()
@click.argument("pool", type=THERE)
@click.argument("editor", type=THERE)
@click.argument("run", type=FOLDER)
@click.option("--examples", default=800, show_default=True, help="Clips in a look, made once.")
@training(FitConfig(steps=2000, decay=800, rate=1e-3, ema=0.995, batch=moving.CLIPS))
@jobs
@device
def motion(pool: Path, editor: Path, run: Path, examples: int, config: FitConfig, jobs: int, device: str) -> None:
    """Make the examples if RUN has none, train or go on, then export to RUN/weights.

    EDITOR: folder of an edit prior's weights, as `editing` writes it.
    """
    torch.manual_seed(config.seed)
    place, done = training_device(device), run / "examples" / "done"
    if not done.exists():
        vae = editors.shared_autoencoder(place)
        build_examples(run / "examples", (Clips, pool), vae, examples, config.seed, jobs)
        done.touch()
    animating = moving.Animating(run / "examples", load_tokenizer(editor / "tokenizer"), config.batch)
    model = moving.Mover(editors.load(editor))
    moving.export(fit(Fit(model, animating, run, config, place), log.info), run / "weights")


@main.command()
@click.argument("run", type=FOLDER)
@click.option("--examples", default=2400, show_default=True, help="Clips, rendered once.")
@training(FitConfig(steps=4000, decay=1200, rate=5e-3, ema=0.995, batch=generators.CLIPS, muon=True))
@jobs
@device
def generation(run: Path, examples: int, config: FitConfig, jobs: int, device: str) -> None:
    """Render the clips if RUN has none, train or go on, then export to RUN/weights."""
    torch.manual_seed(config.seed)
    place, done = training_device(device), run / "examples" / "done"
    if not done.exists():
        vae = editors.shared_autoencoder(place)
        generators.build_clips(run / "examples", vae, range(examples), examples, config.seed, jobs)
        done.touch()
    tokens = write_tokenizer(run / "weights" / "tokenizer", generators.vocabulary(), generators.TOKENS)
    model = generators.Generator(len(tokens))
    model.unet.to(memory_format=torch.channels_last)
    showing = generators.Showing(run / "examples", load_tokenizer(run / "weights" / "tokenizer"), config.batch)
    generators.export(fit(Fit(model, showing, run, config, place), log.info), run / "weights")


for command in (depth_pool, depth, evidence, completion):
    main.add_command(command)


if __name__ == "__main__":
    main()
