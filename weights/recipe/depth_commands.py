"""Commands of the recipe for depth: its clips, its prior, and the network that completes what that says."""

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path

import click
import torch

from vrestore.depth_control import depth_prior
from vrestore.errors import ConfigError
from vrestore.priors.completion import DepthCompletion
from vrestore.weights.recipe import depth as depths
from vrestore.weights.recipe import depth_completion as completions
from vrestore.weights.recipe.depth_evidence import EvidenceConfig, build_evidence
from vrestore.weights.recipe.depth_examples import Examples
from vrestore.weights.recipe.depth_pool import DepthPoolConfig, build_depth_pool
from vrestore.weights.recipe.editing import shared_autoencoder
from vrestore.weights.recipe.fit import Fit, FitConfig, fit
from vrestore.weights.recipe.machine import training_device
from vrestore.weights.recipe.options import FOLDER, THERE, device, jobs, seed, training

log = logging.getLogger("vrestore.recipe")


@click.command("depth-pool")
@click.argument("data", type=THERE)
@click.argument("pool", type=FOLDER)
@click.option("--clips", default=DepthPoolConfig.clips, show_default=True)
@click.option("--frames", default=DepthPoolConfig.frames, show_default=True)
@seed
@jobs
def depth_pool(data: Path, pool: Path, clips: int, frames: int, seed: int, jobs: int) -> None:
    """Render the clips, or go on with what POOL holds."""
    build_depth_pool(pool, data, DepthPoolConfig(clips=clips, frames=frames, seed=seed), log.info, jobs)


@click.command()
@click.argument("pool", type=THERE)
@click.argument("held", type=THERE)
@click.argument("run", type=FOLDER)
@click.option("--start", type=THERE, help="Weights to go on from; else none.")
@click.option(
    "--keep",
    default=0.0,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="Share of --start in what is written: what was learned since, beside what was known before.",
)
@click.option("--small", default=2000, show_default=True, help="Steps before those, at half the size; 0: none.")
@training(FitConfig(steps=1000, decay=600, rate=3e-3, ema=0.99, batch=depths.SNIPPETS, muon=True))
@device
def depth(
    pool: Path, held: Path, run: Path, start: Path | None, keep: float, small: int, config: FitConfig, device: str
) -> None:
    """Train, or go on with what RUN holds, first at half the size; then export to RUN/weights."""
    if keep and start is None:
        raise ConfigError("keep is given, which is a share of --start; give --start, too, or leave it out")
    torch.manual_seed(config.seed)
    place = training_device(device)
    model = depths.DepthNetwork() if start is None else depths.load(start)
    vae = shared_autoencoder(place)
    model.unet.to(memory_format=torch.channels_last)
    for shrunk, folder, steps in ((2, run / "small", small), (1, run, config.steps)):
        if steps:
            examples, judges = (
                Examples(made, folder / name, vae, shrunk) for made, name in ((pool, "examples"), (held, "held"))
            )
            examples.fill()
            minutes = config.minutes * steps / (small + config.steps)
            stage = replace(config, steps=steps, decay=config.decay if shrunk == 1 else 0, minutes=minutes)
            seeing = depths.Seeing(examples, shrunk * (config.batch or depths.SNIPPETS))
            started = Fit(model, seeing, folder, stage, place)
            best = fit(started, log.info, partial(depths.told, held=judges, vae=vae))
            model.load_state_dict(best.state_dict())
    if keep and start is not None:
        depths.mix(model, depths.load(start), keep)
    depths.export(model.eval(), run / "weights")


@click.command()
@click.argument("data", type=THERE)
@click.argument("pool", type=FOLDER)
@click.option("--prior", default="depth", show_default=True, help="Of depth, by name or folder.")
@click.option("--clips", default=EvidenceConfig.clips, show_default=True)
@click.option("--seed", default=EvidenceConfig.seed, show_default=True, help="Of clips that the prior has not seen.")
@jobs
def evidence(data: Path, pool: Path, prior: str, clips: int, seed: int, jobs: int) -> None:
    """Render the clips and look at them, or go on with what POOL holds."""
    build_evidence(pool, (data, prior), EvidenceConfig(clips=clips, seed=seed), log.info, jobs)


@click.command()
@click.argument("pool", type=THERE)
@click.argument("held", type=THERE)
@click.argument("run", type=FOLDER)
@click.option("--prior", default="depth", show_default=True, help="That the pool was made with, by name or folder.")
@click.option("--start", type=THERE, help="Prior whose completion is trained on; else it begins anew.")
@click.option(
    "--doubts",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Share of clips whose evidence is made worse, and of steps that see parts of pictures.",
)
@training(FitConfig(steps=3000, decay=1400, rate=3e-3, warmup=50, ema=0.99, batch=completions.CLIPS, muon=True))
@device
def completion(
    pool: Path, held: Path, run: Path, prior: str, start: Path | None, doubts: float, config: FitConfig, device: str
) -> None:
    """Train, or go on with what RUN holds; then export, with the prior, to RUN/weights."""
    torch.manual_seed(config.seed)
    source = depth_prior(prior).folder
    if source is None:
        raise ConfigError(f"the prior {prior!r} has no folder; name one that has, such as depth")
    completing, judges = completions.Completing(completions.Clips(pool), config.batch, doubts), completions.Clips(held)
    model = DepthCompletion() if start is None else completions.load(start).train()
    started = Fit(model, completing, run, config, training_device(device))
    best = fit(started, log.info, partial(completions.told, held=judges))
    completions.export(best.eval(), source, run / "weights")
