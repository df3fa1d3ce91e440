"""Prompts: the tokens and hidden states are those of the pipeline, and what is too long is told."""

import shutil

import pytest
import torch
from transformers import CLIPTextModel, CLIPTokenizer

from vrestore.errors import PriorError
from vrestore.priors.text import embeddings


def test_embeddings_are_those_of_the_text_encoder(tiny_upscaler):
    tokenizer = CLIPTokenizer.from_pretrained(tiny_upscaler / "tokenizer")
    encoder = CLIPTextModel.from_pretrained(tiny_upscaler / "text_encoder")
    prompts = ["a sharp picture of stone", "", "Blurred NOISE, a"]
    found = embeddings(tiny_upscaler, prompts)
    for prompt, ours in zip(prompts, found, strict=True):
        tokens = tokenizer(prompt, padding="max_length", max_length=12, truncation=True, return_tensors="pt")
        theirs = encoder(tokens.input_ids)[0]
        assert ours.shape == (1, 12, 16)
        assert torch.allclose(ours, theirs, atol=1e-6)
    assert not torch.equal(found[0], found[1])


def test_a_long_prompt_is_cut_with_a_warning(tiny_upscaler, caplog):
    words = "a sharp picture of stone " * 3
    cut, whole = embeddings(tiny_upscaler, [words, "a sharp picture of stone a sharp picture of stone"])
    assert cut.shape == whole.shape == (1, 12, 16)
    assert torch.equal(cut, whole)
    (record,) = caplog.records
    assert "12 tokens" in record.message
    assert record.message.endswith("a sharp picture of stone")


@pytest.mark.parametrize(
    "missing", ["tokenizer/vocab.json", "text_encoder/config.json", "text_encoder/model.safetensors"]
)
def test_a_missing_part_is_named(tiny_upscaler, tmp_path, missing):
    copy = shutil.copytree(tiny_upscaler, tmp_path / "copy")
    (copy / missing).unlink()
    with pytest.raises(PriorError, match=rf"lacks .*copy/{missing.split('.')[0]}"):
        embeddings(copy, ["a"])
