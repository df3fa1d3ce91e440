"""Trained weights to and from diffusers' layout: `vae/`, `unet/` and, of some, `guide/` in fp16 safetensors."""

import json
from copy import deepcopy
from pathlib import Path

import torch

from vrestore.priors.embedded_nets import BridgeVideoDenoiser, GuidedAutoencoder
from vrestore.priors.folder import part_folder
from vrestore.priors.recurrent import RecurrentGuide
from vrestore.weights.recipe.train import Restorer

SHARED = {"unet": "../restoration/unet"}
"""Where a prior that goes on with the decoder alone finds its denoiser."""


def export(model: Restorer, folder: Path, family: str, shared: bool = False) -> None:
    """Write ``folder/model_index.json`` and a folder for each network; the model itself stays as it is.

    ``family``: the adapter that runs them. ``shared``: without the denoiser, which lies where `SHARED` says.
    """
    folder.mkdir(parents=True, exist_ok=True)
    half = deepcopy(model).cpu().to(torch.float16)
    networks = {"vae": half.vae, "unet": half.unet} | ({} if half.guide is None else {"guide": half.guide})
    apart = SHARED if shared else {}
    for name, network in networks.items():
        if name in apart:
            continue
        network.save_pretrained(folder / name)
        config = folder / name / "config.json"
        values = json.loads(config.read_text())
        values.pop("_name_or_path", None)  # where the weights came from that training started with
        config.write_text(json.dumps(values, indent=2) + "\n")
    parts = {name: ["vrestore", type(network).__name__] for name, network in networks.items()}
    index = {"_class_name": family, **parts, **({"_shared": apart} if apart else {})}
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")


def load(folder: Path) -> Restorer:
    """Weights that `export` wrote, in float32, ready to judge or to train on."""
    vae = GuidedAutoencoder.from_pretrained(folder / "vae", local_files_only=True, torch_dtype=torch.float32)
    denoiser = part_folder(folder, "unet")
    unet = BridgeVideoDenoiser.from_pretrained(denoiser, local_files_only=True, torch_dtype=torch.float32)
    guide = None
    if (folder / "guide").is_dir():
        guide = RecurrentGuide.from_pretrained(folder / "guide", local_files_only=True, torch_dtype=torch.float32)
    return Restorer(vae, unet, guide).eval()
