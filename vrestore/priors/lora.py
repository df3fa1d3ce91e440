"""LoRAs merged into networks, from safetensors in the forms that are about: kohya's, diffusers' and peft's.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022: W + scale (alpha / rank) up down.
"""

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from vrestore.errors import PriorError

NETWORK_PREFIXES = ("lora_unet_", "unet.", "diffusion_model.", "")
"""What names of layers of a UNet begin with; the last is for a file of that network alone, as motion LoRAs are."""
TEXT_PREFIXES = ("lora_te_", "lora_te1_", "text_encoder.")
ENDS = {
    ".lora_down.weight": "down", ".lora_up.weight": "up", ".alpha": "alpha",
    ".lora.down.weight": "down", ".lora.up.weight": "up",
    ".lora_A.weight": "down", ".lora_B.weight": "up", ".lora_A.default.weight": "down", ".lora_B.default.weight": "up",
}  # fmt: skip
"""What names of the parts of a pair end with."""

Pairs = dict[str, dict[str, Tensor]]
"""By the layer that it changes: ``down``, ``up`` and perhaps ``alpha``."""


@dataclass(frozen=True)
class Lora:
    """What a file holds."""

    path: Path
    network: Pairs
    text: Pairs

    def merge(self, unet: nn.Module, scale: float) -> None:
        """Add it to the weights of a UNet, ``scale`` times. PriorError if it is of another one."""
        _merge(unet, self.network, scale, self.path)

    def merge_text(self, encoder: nn.Module, scale: float) -> None:
        """The same for a text encoder; most LoRAs have nothing for it."""
        _merge(encoder, self.text, scale, self.path)


def read_lora(path: Path) -> Lora:
    """The pairs of matrices in a file. PriorError if it is missing, damaged, or holds something else."""
    if not path.is_file():
        raise PriorError(f"no LoRA {path}; give a .safetensors file")
    try:
        tensors = load_file(path)
    except (SafetensorError, ValueError) as error:
        raise PriorError(f"{path} is no safetensors file: {str(error).splitlines()[0]}") from error
    found: Pairs = defaultdict(dict)
    for name, tensor in tensors.items():
        plain = re.sub(r"\.processor\.to_(q|k|v|out)_lora\.(down|up)\.weight$", r".to_\1.lora.\2.weight", name)
        end = next((end for end in ENDS if plain.endswith(end)), None)
        if end is None:
            raise PriorError(f"{path} holds {name}, which is no part of a LoRA of a known form")
        found[plain.removesuffix(end)][ENDS[end]] = tensor.float()
    lone = [name for name, pair in found.items() if not {"down", "up"} <= pair.keys()]
    if lone or not found:
        raise PriorError(f"{path} is no whole LoRA: {f'{lone[0]} lacks one of its parts' if lone else 'it is empty'}")
    text = {name: pair for name, pair in found.items() if name.startswith(TEXT_PREFIXES)}
    network = {name: pair for name, pair in found.items() if name not in text}
    return Lora(path, _without(network, NETWORK_PREFIXES), _without(text, TEXT_PREFIXES))


def _without(pairs: Pairs, prefixes: tuple[str, ...]) -> Pairs:
    """By the names of layers with "_" for ".", as kohya writes them."""
    found = {}
    for name, pair in pairs.items():
        prefix = next(prefix for prefix in prefixes if name.startswith(prefix))
        found[name.removeprefix(prefix).replace(".", "_")] = pair
    return found


def _merge(network: nn.Module, pairs: Pairs, scale: float, path: Path) -> None:
    """Nothing is merged where one pair does not fit."""
    layers = _layers(network)
    strange = [name for name in pairs if name not in layers]
    if strange:
        raise PriorError(
            f"the LoRA {path} is of another network: {len(strange)} of {len(pairs)} parts are for layers that are not "
            f"there, such as {strange[0]}; name one for this prior"
        )
    changes = {name: _change(pair, layers[name].weight, name, path) for name, pair in pairs.items()}
    with torch.no_grad():
        for name, change in changes.items():
            weight = layers[name].weight
            weight.copy_(weight.float() + scale * change.to(weight.device))


def _layers(network: nn.Module) -> dict[str, nn.Linear | nn.Conv2d]:
    """What can be changed, by its name; the names in files are of older versions of some networks too."""
    named = {name: module for name, module in network.named_modules() if isinstance(module, (nn.Linear, nn.Conv2d))}
    found = {name.replace(".", "_"): module for name, module in named.items()}
    found |= {name.removesuffix("_0"): module for name, module in found.items() if name.endswith("to_out_0")}
    return found | {f"text_model_{name}": module for name, module in found.items() if name.startswith("encoder_")}


def _change(pair: dict[str, Tensor], weight: Tensor, name: str, path: Path) -> Tensor:
    """What is added to a layer's weight, (out, in) or (out, in, height, width)."""
    down, up = pair["down"], pair["up"]
    rank = down.shape[0]
    share = float(pair["alpha"]) / rank if "alpha" in pair else 1.0
    product = up.flatten(1) @ down.flatten(1) if up.flatten(1).shape[1] == rank else down.new_zeros(0)
    if product.numel() != weight.numel() or len(product) != len(weight):
        raise PriorError(
            f"the LoRA {path} is of another network: {name} is {tuple(up.shape)} by {tuple(down.shape)} for weights of "
            f"{tuple(weight.shape)}; name one for this prior"
        )
    return share * product.view(weight.shape)
