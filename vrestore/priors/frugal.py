"""Networks that need less memory on a device than their weights have: what diffusers offers, in one place."""

import torch
from diffusers.models.modeling_utils import ModelMixin

from vrestore.prior_options import PriorOptions, generation_options

STORED = torch.float8_e4m3fn
"""Precision in which weights lie between two uses, where they are stored small."""


def placed(network: ModelMixin, device: torch.device, options: PriorOptions | None) -> ModelMixin:
    """A network on its device, as the options ``offload`` and ``small_weights`` have it.

    Offloaded, its layers lie in the machine's memory and come to the device one by one as they are used. Stored small,
    its weights are of 8 bits but for those of norms and embeddings, and are cast up layer by layer.
    """
    told = generation_options(options or PriorOptions())
    if told.small_weights:
        network.enable_layerwise_casting(storage_dtype=STORED, compute_dtype=network.dtype)
    if told.offload:
        network.enable_group_offload(onload_device=device, offload_type="leaf_level", use_stream=device.type == "cuda")
        return network
    return network.to(device)
