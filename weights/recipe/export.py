"""Trained weights to and from diffusers' layout: `vae/`, `unet/` and, of some, `guide/` in fp16 safetensors."""

from pathlib import Path

import torch

from vrestore.priors.embedded_nets import BridgeVideoDenoiser, GuidedAutoencoder
from vrestore.priors.folder import part_folder
from vrestore.priors.recurrent import RecurrentGuide
from vrestore.weights.recipe.train import Restorer
from vrestore.weights.recipe.written import write_folder

SHARED = {"unet": "../restoration/unet"}
"""Where a prior that goes on with the decoder alone finds its denoiser."""


def export(model: Restorer, folder: Path, family: str, shared: bool = False) -> None:
    """Write ``folder/model_index.json`` and a folder for each network; the model itself stays as it is.

    ``family``: the adapter that runs them. ``shared``: without the denoiser, which lies where `SHARED` says.
    """
    apart = SHARED if shared else {}
    networks = {"vae": model.vae, "unet": model.unet} | ({} if model.guide is None else {"guide": model.guide})
    written = {name: network for name, network in networks.items() if name not in apart}
    elsewhere = {name: ["vrestore", type(networks[name]).__name__] for name in apart}
    write_folder(folder, family, written, elsewhere | ({"_shared": apart} if apart else {}))


def load(folder: Path) -> Restorer:
    """Weights that `export` wrote, in float32, ready to judge or to train on."""
    vae = GuidedAutoencoder.from_pretrained(folder / "vae", local_files_only=True, torch_dtype=torch.float32)
    denoiser = part_folder(folder, "unet")
    unet = BridgeVideoDenoiser.from_pretrained(denoiser, local_files_only=True, torch_dtype=torch.float32)
    guide = None
    if (folder / "guide").is_dir():
        guide = RecurrentGuide.from_pretrained(folder / "guide", local_files_only=True, torch_dtype=torch.float32)
    return Restorer(vae, unet, guide).eval()
