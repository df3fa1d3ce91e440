"""What the edit prior can be told: its words, the phrases it is trained on, a tokenizer and a text encoder for them."""

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from threading import Lock

import numpy as np
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from vrestore.weights.recipe.looks import COLOURS, LOOKS

PHRASES: dict[str, tuple[str, ...]] = {
    "night": ("at night", "by night", "a night scene"),
    "dusk": ("at dusk", "in twilight", "a dusk scene"),
    "sunset": ("at sunset", "in the evening sun", "a sunset scene"),
    "snow": ("in snow", "in winter", "covered with snow"),
    "fog": ("in fog", "in thick mist", "a foggy day"),
    "rain": ("in rain", "a rainy day", "in heavy rain"),
    "sepia": ("sepia", "an old sepia photo", "sepia print"),
    "black and white film": ("black and white film", "black and white", "a film noir scene"),
    "pencil sketch": ("a pencil sketch", "pencil drawing", "drawn with a pencil"),
    "watercolour": ("watercolour", "a watercolour painting", "watercolor style"),
    "oil painting": ("an oil painting", "painted in oil", "oil painting style"),
    "cartoon": ("cartoon", "a cartoon", "comic style"),
    "neon": ("neon", "neon lights", "in neon style"),
    "blueprint": ("a blueprint", "blueprint drawing", "blueprint style"),
    "thermal": ("thermal", "a thermal camera", "infrared heat picture"),
    "autumn": ("in autumn", "an autumn day", "in the fall"),
}
"""Ways to ask for each look, beside its own name."""

SUBJECTS = (
    "animal", "bear", "beach", "bicycle", "bird", "boat", "building", "bus", "camel", "car", "cat", "child", "city",
    "clouds", "coffee", "cow", "dance", "dog", "field", "fish", "flower", "food", "forest", "garden", "goat", "grass",
    "horse", "house", "lake", "leaves", "man", "market", "motorbike", "mountain", "park", "people", "person", "rabbit",
    "river", "road", "room", "runner", "sea", "sheep", "sky", "street", "swan", "table", "train", "tree", "trees",
    "water", "woman", "world",
)  # fmt: skip
"""Words that it knows without rendering them: what is in the picture comes from the picture."""

GLUE = ("a", "an", "the", "of", "in", "at", "by", "on", "with", "and", "as", "is", "to", "some", "two", "light",
        "colours", "colour", "color", "photo", "picture", "video", "scene", "style", "view", "old", "very", "made",
        "like", "look", "day")  # fmt: skip

PLAIN = ("a photo", "a video", "a photo of {subject}", "a video of {subject}", "a plain picture")
"""Phrases that ask for no change."""

TOKENS, WIDTH = 32, 96
SPECIAL = ("<|startoftext|>", "<|endoftext|>")


def vocabulary() -> tuple[str, ...]:
    """Every whole word, sorted."""
    told = [*LOOKS, *COLOURS, *(phrase for ways in PHRASES.values() for phrase in ways), *SUBJECTS, *GLUE]
    told += [word for phrase in PLAIN for word in phrase.split() if "{" not in word]
    return tuple(sorted({word for phrase in told for word in phrase.split()}))


def phrase(rng: np.random.Generator, look: str | None, colour: str | None) -> str:
    """A way to ask for a look, a colour, both or no change."""
    subject = f"{rng.choice(['a', 'the', 'some'])} {rng.choice(SUBJECTS)}"
    if rng.random() < 0.12:  # a word that it has never read changes nothing
        subject = "".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz"), int(rng.integers(2, 8))))
    if look is None and colour is None:
        return str(rng.choice(PLAIN)).format(subject=subject)
    asked = "" if look is None else str(rng.choice((look, *PHRASES[look])))
    if colour is not None:
        ways = ("{colour} {asked}", "{asked} in {colour}", "{asked} in {colour} light", "{colour} colours {asked}")
        asked = str(rng.choice(ways)).format(colour=colour, asked=asked).strip()
    places = ("{asked}", "{asked}", "{subject} {asked}", "{asked} {subject}", "a video of {subject} {asked}")
    return str(rng.choice(places)).format(asked=asked, subject=subject)


def whole_words(words: Sequence[str]) -> list[tuple[str, str]]:
    """Merges of byte pair encoding that make one token of each word, of words as they come.

    A word is joined from the left. Where a pair from another word comes first and leaves it in pieces, those are joined
    by merges of their own, which come last.
    """
    ranks: dict[tuple[str, str], int] = {}
    for _ in range(max(map(len, words), default=0)):
        for word in words:
            pieces = _pieces(word, ranks)
            while len(pieces) > 1:
                ranks.setdefault((pieces[0], pieces[1]), len(ranks))
                pieces[:2] = ["".join(pieces[:2])]
        if all(len(_pieces(word, ranks)) == 1 for word in words):
            break
    return list(ranks)


def _pieces(word: str, ranks: Mapping[tuple[str, str], int]) -> list[str]:
    """The tokens of a word: the pair of the lowest rank is joined first (Sennrich et al., ACL 2016)."""
    pieces = [*word[:-1], f"{word[-1]}</w>"]
    while True:
        known = [(ranks[pair], i) for i, pair in enumerate(pairwise(pieces)) if pair in ranks]
        if not known:
            return pieces
        at = min(known)[1]
        pieces[at : at + 2] = ["".join(pieces[at : at + 2])]


def write_tokenizer(folder: Path, words: Sequence[str] | None = None, length: int = TOKENS) -> dict[str, int]:
    """A CLIP tokenizer (byte pair encoding) of whole words and of single letters; the ids of its tokens.

    Left out, ``words`` are those of the edit prior. ``length``: most tokens of a text.
    """
    letters = "abcdefghijklmnopqrstuvwxyz0123456789,.!?-'"
    merges = whole_words(vocabulary() if words is None else words)
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in merges)]
    ids = {token: i for i, token in enumerate((*dict.fromkeys(tokens), *SPECIAL))}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(ids) + "\n")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n")
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": length,
        "pad_token": SPECIAL[1],
        "bos_token": SPECIAL[0],
        "eos_token": SPECIAL[1],
        "unk_token": SPECIAL[1],
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    return ids


class Ids:
    """Makes ids (n, length) of phrases, for one thread at a time: a tokenizer bears no more."""

    def __init__(self, tokenizer: CLIPTokenizer, length: int) -> None:
        self._tokenizer, self._length, self._alone = tokenizer, length, Lock()

    def __call__(self, phrases: Sequence[str]) -> Tensor:
        """Padded, or cut."""
        with self._alone:
            ids: Tensor = self._tokenizer(
                list(phrases), padding="max_length", max_length=self._length, truncation=True, return_tensors="pt"
            ).input_ids
        return ids


def text_encoder(size: int, width: int = WIDTH, length: int = TOKENS) -> CLIPTextModel:
    """An untrained text encoder for a vocabulary of that size."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=size,
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=length,
            bos_token_id=size - 2,
            eos_token_id=size - 1,
            pad_token_id=size - 1,
        )
    )
