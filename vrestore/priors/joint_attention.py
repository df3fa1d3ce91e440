"""Self-attention over all frames of a snippet together, on stock diffusers models, as RollingDepth has it."""

import torch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor


class JointAttention:
    """Processor of a self-attention layer: every frame of a snippet attends to all frames of it, its own included.

    Rows of the layer's batch are snippets times frames. With ``frames`` 1 it is diffusers' own processor, to the bit.
    """

    def __init__(self) -> None:
        self.frames = 1
        self._plain = AttnProcessor2_0()

    def __call__(
        self, attn: Attention, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **more: Tensor | None
    ) -> Tensor:
        """The layer's answer, of the shape of ``hidden_states`` (rows, tokens, width)."""
        if self.frames == 1 or encoder_hidden_states is not None:
            plain: Tensor = self._plain(attn, hidden_states, encoder_hidden_states, **more)
            return plain
        rows, tokens = hidden_states.shape[:2]
        joint = hidden_states.reshape(rows // self.frames, self.frames * tokens, -1)
        found: Tensor = self._plain(attn, joint, **more)
        return found.reshape(rows, tokens, -1)


def joined(unet: torch.nn.Module) -> JointAttention:
    """Put one processor into all self-attention layers of a UNet; its ``frames`` is set before each call."""
    processor = JointAttention()
    for name, layer in unet.named_modules():
        if name.endswith("attn1") and isinstance(layer, Attention):
            layer.set_processor(processor)
    return processor
