"""Trained weights to and from diffusers' layout: `vae/` and `unet/` in fp16 safetensors beside `model_index.json`."""

import json
from copy import deepcopy
from pathlib import Path

import torch

from vrestore.priors.embedded_nets import BridgeVideoDenoiser, GuidedAutoencoder
from vrestore.weights.recipe.train import Restorer

PARTS = {
    "vae": ["vrestore", "GuidedAutoencoder"],
    "unet": ["vrestore", "BridgeVideoDenoiser"],
}


def export(model: Restorer, folder: Path, family: str) -> None:
    """Write ``folder/model_index.json``, ``folder/vae`` and ``folder/unet``; the model itself stays as it is.

    ``family``: the adapter that runs them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    half = deepcopy(model).cpu().to(torch.float16)
    for network, name in ((half.vae, "vae"), (half.unet, "unet")):
        network.save_pretrained(folder / name)
        config = folder / name / "config.json"
        values = json.loads(config.read_text())
        values.pop("_name_or_path", None)  # where the weights came from that training started with
        config.write_text(json.dumps(values, indent=2) + "\n")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": family, **PARTS}, indent=2) + "\n")


def load(folder: Path) -> Restorer:
    """Weights that `export` wrote, in float32, ready to judge or to train on."""
    vae = GuidedAutoencoder.from_pretrained(folder / "vae", local_files_only=True, torch_dtype=torch.float32)
    unet = BridgeVideoDenoiser.from_pretrained(folder / "unet", local_files_only=True, torch_dtype=torch.float32)
    return Restorer(vae, unet).eval()
