"""A whole model in one file, as Stable Diffusion was first published: the networks are those of the folder again."""

import shutil

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextModel

from vrestore.errors import PriorError
from vrestore.prior_options import EditOptions
from vrestore.priors import find_prior

RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "norm2": "out_layers.0", "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1", "conv_shortcut": "skip_connection",
}  # fmt: skip
ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def resnet(name):
    if "transformer_blocks" in name:
        return name
    for ours, theirs in RESNET.items():
        name = name.replace(f".{ours}.", f".{theirs}.")
    return name


def unet_name(name, layers=1):
    """The name of a tensor of diffusers' UNet in the first publication."""
    plain = {
        "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
        "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
        "mid_block.resnets.0": "middle_block.0", "mid_block.attentions.0": "middle_block.1",
        "mid_block.resnets.1": "middle_block.2",
    }  # fmt: skip
    for ours, theirs in plain.items():
        if name.startswith(f"{ours}."):
            return resnet(theirs + name.removeprefix(ours))
    side, block, kind, place, *rest = name.split(".")
    if side == "down_blocks":
        number = 1 + int(block) * (layers + 1) + int(place)
        where = f"input_blocks.{number + layers if kind == 'downsamplers' else number}"
        inner = {"resnets": "0", "attentions": "1", "downsamplers": "0.op"}[kind]
    else:
        number = int(block) * (layers + 1) + int(place)
        where = f"output_blocks.{number + layers if kind == 'upsamplers' else number}"
        inner = {"resnets": "0", "attentions": "1", "upsamplers": "1"}[kind]
    if kind == "downsamplers":
        rest = rest[1:]  # conv
    return resnet(f"{where}.{inner}.{'.'.join(rest)}")


def vae_name(name, levels=4):
    name = name.replace("mid_block.resnets.0", "mid.block_1").replace("mid_block.resnets.1", "mid.block_2")
    name = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    if "mid_block.attentions.0" in name:
        name = name.replace("mid_block.attentions.0", "mid.attn_1")
        for ours, theirs in ATTENTION.items():
            name = name.replace(f".{ours}.", f".{theirs}.")
    parts = name.split(".")
    if len(parts) > 2 and parts[1] in ("down_blocks", "up_blocks"):
        side = parts[1].removesuffix("_blocks")
        parts[1:3] = [side, parts[2] if side == "down" else str(levels - 1 - int(parts[2]))]
        parts[3] = {"resnets": "block", "downsamplers": "downsample", "upsamplers": "upsample"}[parts[3]]
        if parts[3] != "block":
            del parts[4]
    return ".".join(parts)


def one_file(folder, path):
    """The networks of a folder in one file, under the names of the first publication."""
    tensors = {}
    for name, value in UNet2DConditionModel.from_pretrained(folder / "unet").state_dict().items():
        tensors[f"model.diffusion_model.{unet_name(name)}"] = value
    for name, value in AutoencoderKL.from_pretrained(folder / "vae").state_dict().items():
        convolved = "attentions" in name and value.ndim == 2
        tensors[f"first_stage_model.{vae_name(name)}"] = value[:, :, None, None] if convolved else value
    for name, value in CLIPTextModel.from_pretrained(folder / "text_encoder").state_dict().items():
        tensors[f"cond_stage_model.transformer.text_model.{name.removeprefix('text_model.')}"] = value
    tensors["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(12)[None]
    tensors["model_ema.decay"] = torch.zeros(1)
    save_file({name: value.contiguous() for name, value in tensors.items()}, path)
    return path


@pytest.fixture
def settings_only(tiny_control, tmp_path):
    """The folder without the weights that a file takes the place of."""
    ignored = shutil.ignore_patterns("*.safetensors")
    return shutil.copytree(tiny_control, tmp_path / "settings", ignore=ignored)


def predicted(prior):
    torch.manual_seed(0)
    frames = torch.rand(1, 3, 32, 32)
    window = {"text": prior.embed(["a sharp picture"])[None]}
    x0 = prior.predict(prior.encode(frames)[None], torch.tensor([[501.0]]), window)
    return x0, prior.decode(x0[0], {})


@pytest.mark.parametrize("motion", [False, True])
def test_a_file_is_the_folder_that_it_was_made_of(tiny_control, tiny_motion, settings_only, tmp_path, motion):
    path = one_file(tiny_control, tmp_path / "model.safetensors")
    more = {"controlnet": "none"} | ({"motion_adapter": str(tiny_motion)} if motion else {})
    source = find_prior(str(settings_only), EditOptions(checkpoint=path, **more))
    assert source.weights()[0] == path
    whole = find_prior(str(tiny_control), EditOptions(**more))
    ours, theirs = (one.load(torch.device("cpu"), torch.float32) for one in (source, whole))
    for one, other in zip(predicted(ours), predicted(theirs), strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def without(tensors, part):
    return {name: value for name, value in tensors.items() if part not in name}


def test_a_file_of_something_else_is_refused(tiny_control, settings_only, tmp_path):
    from safetensors.torch import load_file

    path = one_file(tiny_control, tmp_path / "model.safetensors")
    whole, wide = load_file(path), "model.diffusion_model.input_blocks.0.0.weight"
    cases = {
        "holds no tensors first_stage_model": without(whole, "first_stage_model"),
        "settings.unet says": without(whole, "middle_block.1.proj_in.bias"),
        "are not of the shape": whole | {wide: torch.zeros(16, 4, 3, 3)},
        "settings says": without(whole, "final_layer_norm.weight"),
    }
    for text, tensors in cases.items():
        save_file(tensors, path)
        with pytest.raises(PriorError, match=text):
            find_prior(str(settings_only), EditOptions(checkpoint=path, controlnet="none")).load(
                torch.device("cpu"), torch.float32
            )
    for name in ("nothing", "text"):
        (tmp_path / "text.safetensors").write_text("no tensors")
        with pytest.raises(PriorError, match=f"{name}.safetensors"):
            find_prior(
                str(settings_only), EditOptions(checkpoint=tmp_path / f"{name}.safetensors", controlnet="none")
            ).load(torch.device("cpu"), torch.float32)
