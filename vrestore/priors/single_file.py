"""Single files of the SD 1.5 family, as they are shared on the web: all networks in one ``.safetensors``.

diffusers converts them; of what shape the networks are stands in the settings of a folder, so nothing is fetched.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint
from diffusers.models.modeling_utils import ModelMixin
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from vrestore.errors import PriorError
from vrestore.priors.autoencoder import Autoencoder, autoencoder_shape, wrapped
from vrestore.priors.folder import part_folder, read_json

UNET, VAE, TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer."
"""What the names of a network's tensors begin with."""

Network = TypeVar("Network", bound=ModelMixin)


@dataclass(frozen=True)
class Tensors:
    """Those of one network, and where they are from."""

    path: Path
    found: dict[str, Tensor]


def unet_of(path: Path, folder: Path, dtype: torch.dtype) -> UNet2DConditionModel:
    """The UNet in a file, of the shape that a folder in diffusers' layout says. PriorError if it is not there."""
    tensors = _tensors(path, UNET)
    return _converted(UNet2DConditionModel, convert_ldm_unet_checkpoint, tensors, part_folder(folder, "unet"), dtype)


def autoencoder_of(path: Path, folder: Path) -> Autoencoder:
    """The autoencoder in a file, float32. PriorError if it is not there."""
    where = part_folder(folder, "vae")
    _, factor = autoencoder_shape(where)
    found = _converted(AutoencoderKL, convert_ldm_vae_checkpoint, _tensors(path, VAE), where, torch.float32)
    return wrapped(found, factor)


def text_encoder_of(path: Path, folder: Path) -> CLIPTextModel:
    """The text encoder in a file, float32. PriorError if it is not there."""
    config = CLIPTextConfig(**read_json(part_folder(folder, "text_encoder") / "config.json"))
    encoder = CLIPTextModel(config)
    tensors = {name.removeprefix(TEXT): value.float() for name, value in _tensors(path, TEXT).found.items()}
    bare = not any(name.startswith("text_model.") for name in encoder.state_dict())
    if bare:
        tensors = {name.removeprefix("text_model."): value for name, value in tensors.items()}
    tensors = {name: value for name, value in tensors.items() if not name.endswith("position_ids")}
    try:
        encoder.load_state_dict(tensors)
    except RuntimeError as error:
        raise _strange(path, folder, error) from error
    return encoder.eval().requires_grad_(False)


def _converted(
    kind: type[Network], convert: Callable[..., dict[str, Tensor]], tensors: Tensors, folder: Path, dtype: torch.dtype
) -> Network:
    """A network with every tensor that it needs."""
    config = read_json(folder / "config.json")
    try:
        converted = convert(dict(tensors.found), config=config)
        with torch.device("meta"):
            network: Network = kind.from_config(config)
        network.load_state_dict({name: value.to(dtype) for name, value in converted.items()}, assign=True)
    except Exception as error:  # whatever a file of another network makes of the conversion
        raise _strange(tensors.path, folder, error) from error
    whole: Network = network.eval().requires_grad_(False)
    return whole


def _tensors(path: Path, prefix: str) -> Tensors:
    """Those whose names begin so, with their whole names."""
    if not path.is_file():
        raise PriorError(f"no checkpoint {path}; give a .safetensors file")
    try:
        with safe_open(path, framework="pt") as file:
            found = {name: file.get_tensor(name) for name in file.keys() if name.startswith(prefix)}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise PriorError(f"{path} is no safetensors file: {str(error).splitlines()[0]}") from error
    if not found:
        raise PriorError(f"{path} holds no tensors {prefix}*; give a whole model of the SD 1.5 family in one file")
    return Tensors(path, found)


def _strange(path: Path, folder: Path, error: Exception) -> PriorError:
    text = " ".join(str(error).split())[:200] or type(error).__name__
    return PriorError(f"the networks in {path} are not of the shape that {folder} says: {text}; name one of its family")
