"""Prompts as a CLIP text encoder sees them."""

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer, T5TokenizerFast

from vrestore.errors import ConfigError, PriorError
from vrestore.priors.folder import ADVICE, load_text, part_folder

log = logging.getLogger(__name__)

Embedding = Float[Tensor, "1 tokens width"]


def load_tokenizer(folder: Path) -> CLIPTokenizer:
    """The tokenizer in a folder. Never downloads; PriorError if it is not there or damaged."""
    if (
        not ((folder / "vocab.json").is_file() and (folder / "merges.txt").is_file())
        and not (folder / "tokenizer.json").is_file()
    ):
        raise PriorError(f"the prior lacks {folder / 'vocab.json'} and merges.txt; {ADVICE}")
    try:
        return CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # whatever a damaged file makes of the library that reads it
        raise PriorError(f"no usable tokenizer in {folder}: {str(error).splitlines()[0]}; {ADVICE}") from error


def load_t5_tokenizer(folder: Path) -> T5TokenizerFast:
    """The tokenizer of a T5 text encoder in a folder. Never downloads; PriorError if it is not there or damaged."""
    if not (folder / "tokenizer.json").is_file():
        raise PriorError(f"the prior lacks {folder / 'tokenizer.json'}; {ADVICE}")
    try:
        return T5TokenizerFast.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # whatever a damaged file makes of the library that reads it
        raise PriorError(f"no usable tokenizer in {folder}: {str(error).splitlines()[0]}; {ADVICE}") from error


def embeddings(folder: Path, prompts: Sequence[str], encoder: CLIPTextModel | None = None) -> list[Embedding]:
    """Last hidden states of the text encoder for each prompt, float32, on the CPU.

    ``folder`` holds ``tokenizer`` and, unless ``encoder`` is given, ``text_encoder``. That is let go afterwards: a run
    has few prompts. What of a prompt is beyond the encoder's length is left out, with a warning.
    """
    tokenizer = load_tokenizer(part_folder(folder, "tokenizer"))
    encoder = encoder or load_text(CLIPTextModel, part_folder(folder, "text_encoder"))
    most = min(int(tokenizer.model_max_length), int(encoder.config.max_position_embeddings))
    found = []
    for prompt in prompts:
        whole = tokenizer(prompt, verbose=False).input_ids
        if len(whole) > most:
            lost = tokenizer.decode(whole[most - 1 : -1])
            log.warning("a prompt is longer than the %d tokens that this prior takes; left out: %s", most, lost)
        tokens = tokenizer(prompt, padding="max_length", max_length=most, truncation=True, return_tensors="pt")
        masked = getattr(encoder.config, "use_attention_mask", False)
        with torch.inference_mode():
            hidden = encoder(tokens.input_ids, attention_mask=tokens.attention_mask if masked else None)[0]
        found.append(hidden.clone())
    return found


def places_of(folder: Path, text: str, words: str) -> tuple[int, ...]:
    """Positions of the tokens of some neighbouring words within those of a text.

    Raises:
        ConfigError: they are not in it.
    """
    tokenizer = load_tokenizer(part_folder(folder, "tokenizer"))
    whole, part = (tokenizer(one, verbose=False).input_ids for one in (text, words))
    sought = part[1:-1]  # without the marks of beginning and end
    for first in range(1, len(whole) - len(sought)):
        if sought and whole[first : first + len(sought)] == sought:
            return tuple(range(first, first + len(sought)))
    raise ConfigError(f"the words {words!r} are not in {text!r}; give neighbouring words of it")
