"""LoRAs in the forms that are about, merged: the network is what it is with the low-rank paths beside its layers."""

import pytest
import torch
from diffusers import MotionAdapter, UNet2DConditionModel, UNetMotionModel
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPTextModel

from vrestore.errors import PriorError
from vrestore.priors.lora import read_lora

RANK = 3


@pytest.fixture
def unet(tiny_control):
    return UNet2DConditionModel.from_pretrained(tiny_control / "unet")


def pair(layer):
    """(down, up) for a linear layer or a convolution."""
    if isinstance(layer, nn.Linear):
        return torch.randn(RANK, layer.in_features), torch.randn(layer.out_features, RANK)
    down = torch.randn(RANK, layer.in_channels, *layer.kernel_size)
    return down, torch.randn(layer.out_channels, RANK, 1, 1)


def changed(network):
    """Layers of several kinds, by name, and their pairs."""
    ends = ("to_q", "to_out.0", "ff.net.0.proj", "attentions.0.proj_in", "resnets.0.conv1", "q_proj")
    layers = {
        name: module for name, module in network.named_modules()
        if name.endswith(ends) and isinstance(module, (nn.Linear, nn.Conv2d))
    }  # fmt: skip
    assert len(layers) > 1
    return layers, {name: pair(module) for name, module in layers.items()}


def kohya(pairs, alpha, prefix="lora_unet_"):
    found = {}
    for name, (down, up) in pairs.items():
        flat = prefix + name.replace(".", "_")
        found |= {f"{flat}.lora_down.weight": down, f"{flat}.lora_up.weight": up, f"{flat}.alpha": torch.tensor(alpha)}
    return found


def peft(pairs, prefix="unet."):
    return {
        f"{prefix}{name}.lora_{part}.weight": value
        for name, both in pairs.items()
        for part, value in zip("AB", both, strict=True)
    }


def legacy(pairs):
    """That of diffusers before it used peft; attention only."""
    found = {}
    for name, both in pairs.items():
        stem, _, last = name.replace("to_out.0", "to_out").rpartition(".")
        for part, value in zip(("down", "up"), both, strict=True):
            found[f"unet.{stem}.processor.{last}_lora.{part}.weight"] = value
    return found


def beside(layers, pairs, scale):
    """Low-rank paths beside the layers themselves."""

    def path(down, up):
        def hook(layer, given, out):
            if isinstance(layer, nn.Linear):
                return out + scale * given[0] @ down.T @ up.T
            low = nn.functional.conv2d(given[0], down, padding=layer.padding)
            return out + scale * nn.functional.conv2d(low, up)

        return hook

    return [layer.register_forward_hook(path(*pairs[name])) for name, layer in layers.items()]


def answer(network, dims=4):
    torch.manual_seed(1)
    x = torch.randn(1, 4, *([2] if dims == 5 else []), 8, 8)
    text = torch.randn(x.shape[2] if dims == 5 else 1, 12, 16)
    with torch.no_grad():
        return network(x, torch.tensor(501.0), text).sample


@pytest.mark.parametrize(("form", "alpha"), [(kohya, 1.5), (kohya, 3.0), (peft, None), (legacy, None)])
def test_a_merged_network_is_one_with_low_rank_paths(unet, tmp_path, form, alpha):
    layers, pairs = changed(unet)
    if form is legacy:
        pairs = {name: value for name, value in pairs.items() if name.endswith(("to_q", "to_out.0"))}
        layers = {name: layers[name] for name in pairs}
    save_file(form(pairs, alpha) if alpha else form(pairs), tmp_path / "lora.safetensors")
    plain = answer(unet)
    hooks = beside(layers, pairs, 0.1 * (alpha / RANK if alpha else 1))
    expected = answer(unet)
    for hook in hooks:
        hook.remove()
    read_lora(tmp_path / "lora.safetensors").merge(unet, 0.1)
    assert not torch.allclose(expected, plain, atol=1e-2)
    assert torch.allclose(answer(unet), expected, atol=1e-4)


def test_a_lora_of_motion(unet, tiny_motion, tmp_path):
    """As for movements of the camera: of the motion modules alone, without a prefix."""
    network = UNetMotionModel.from_unet2d(unet, MotionAdapter.from_pretrained(tiny_motion))
    layers = {n: m for n, m in network.named_modules() if "motion_modules" in n and n.endswith("attn1.to_v")}
    pairs = {name: pair(module) for name, module in layers.items()}
    save_file(peft(pairs, prefix=""), tmp_path / "lora.safetensors")
    hooks = beside(layers, pairs, 1.0)
    expected = answer(network, dims=5)
    for hook in hooks:
        hook.remove()
    read_lora(tmp_path / "lora.safetensors").merge(network, 1.0)
    assert torch.allclose(answer(network, dims=5), expected, atol=1e-4)


@torch.no_grad()
def test_a_text_encoder_has_its_part(tiny_control, tmp_path):
    """Under the names that it had in the files of all versions."""
    encoder = CLIPTextModel.from_pretrained(tiny_control / "text_encoder")
    layers, pairs = changed(encoder)
    tokens = torch.tensor([[1, 2, 3]])
    hooks = beside(layers, pairs, 0.5 * 2.0 / RANK)
    expected = encoder(tokens)[0]
    for hook in hooks:
        hook.remove()
    old = {f"text_model.{name.removeprefix('text_model.')}": value for name, value in pairs.items()}
    save_file(kohya(old, 2.0, prefix="lora_te_"), tmp_path / "lora.safetensors")
    lora = read_lora(tmp_path / "lora.safetensors")
    assert lora.network == {}
    lora.merge_text(encoder, 0.5)
    assert torch.allclose(encoder(tokens)[0], expected, atol=1e-5)


def test_what_does_not_fit_is_refused_and_changes_nothing(unet, tmp_path):
    path = tmp_path / "lora.safetensors"
    layers, pairs = changed(unet)
    before = {name: value.clone() for name, value in unet.state_dict().items()}
    name = next(iter(layers))
    down, up = pairs[name]
    cases = {
        "of another network: 1 of": peft(pairs | {"down_blocks.9.to_q": (down.clone(), up.clone())}),
        "for weights of": peft(pairs | {name: (down, torch.randn(up.shape[0] + 1, RANK))}),
        "lacks one of its parts": {k: v for k, v in peft(pairs).items() if not k.endswith(f"{name}.lora_A.weight")},
        "is no part of a LoRA": peft(pairs) | {"unet.conv_in.weight": torch.zeros(2)},
        "it is empty": {},
    }
    for text, tensors in cases.items():
        save_file(tensors, path)
        with pytest.raises(PriorError, match=text):
            read_lora(path).merge(unet, 1.0)
    path.write_bytes(b"not at all")
    with pytest.raises(PriorError, match="is no safetensors file"):
        read_lora(path)
    with pytest.raises(PriorError, match="no LoRA"):
        read_lora(tmp_path / "other.safetensors")
    assert all(torch.equal(value, before[name]) for name, value in unet.state_dict().items())
