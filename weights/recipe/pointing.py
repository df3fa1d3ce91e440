"""What lets a word find its place: the edit prior reads the word of a colour where that colour is.

Automatic masks ask where a network reads a word. Nothing in the loss of a denoiser asks it to read a word at its place,
and a small network does not. So some examples show things of a colour, painted over pictures of other colours, and
cross-attention to the word is told where that thing is (after Wang et al., "TokenCompose", CVPR 2024; squared errors).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderDC, DDIMScheduler
from torch import Tensor
from transformers import CLIPTokenizer

from vrestore.masks import watched
from vrestore.weights.recipe.drawn import Tensors
from vrestore.weights.recipe.editing import (
    LATENT,
    PICTURES,
    SCHEDULE,
    SIZE,
    Editor,
    Lesson,
    Rendering,
    encoded,
    noised,
)
from vrestore.weights.recipe.examples import TOGETHER, Pictures
from vrestore.weights.recipe.fit import Drawing, Moment
from vrestore.weights.recipe.looks import COLOURS
from vrestore.weights.recipe.machine import made
from vrestore.weights.recipe.words import SUBJECTS, TOKENS, Ids

POINTED = 4
"""Examples of a step."""
THING, READ = 0.1, 2.0
"""Weights of the errors of these: of the v-prediction, and of the reading."""
SHARE = 0.5
"""Of the attention at a thing that the word of its colour is to have; the rest is left to other words."""
TIMES = (200, 800)
"""Between which a network is asked where a word is."""
WAYS = ("{colour}", "{colour}", "the {colour} part", "a {colour} {subject}", "the {colour} {subject}")
"""Phrases that name a thing by its colour. A text encoder that looks back only has one state for the word in them all
that begin alike."""
NEAR_DEG = 45.0
"""Hues that count as the same colour are so near."""
PLACES = SIZE // 8
"""Side of the grid on which is said where a thing is."""


def hue_deg(picture: np.ndarray) -> np.ndarray:
    """Hues (h, w) in degrees of a picture (h, w, 3) in [0, 1], float32."""
    hues: np.ndarray = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV)[..., 0]
    return hues


def apart_deg(first: np.ndarray | float, second: np.ndarray | float) -> np.ndarray:
    """How far hues are apart, at most 180."""
    return np.asarray(np.abs((np.asarray(first) - np.asarray(second) + 180) % 360 - 180))


def shape(rng: np.random.Generator) -> np.ndarray:
    """A random blob, bool (SIZE, SIZE)."""
    count = int(rng.integers(3, 10))
    turns = np.sort(rng.uniform(0, 2 * np.pi, count)) if rng.random() < 0.4 else np.linspace(0, 2 * np.pi, 40)[:-1]
    sides, turned = rng.uniform(0.08, 0.3, 2) * SIZE, rng.uniform(0, np.pi)
    points = np.stack([np.cos(turns) * sides[0], np.sin(turns) * sides[1]], axis=1)
    turn = np.array([[np.cos(turned), -np.sin(turned)], [np.sin(turned), np.cos(turned)]])
    places = points @ turn + rng.uniform(0.1, 0.9, 2) * SIZE
    filled = cv2.fillPoly(np.zeros((SIZE, SIZE), np.uint8), [np.rint(places).astype(np.int32)], 1)
    return np.asarray(filled > 0)


def painted(rng: np.random.Generator, crop: np.ndarray) -> tuple[np.ndarray, int, np.ndarray]:
    """A picture (SIZE, SIZE, 3) uint8 with things of some colours, the number of one of these, and where it is, bool.

    What else had that hue in the picture has lost it.
    """
    picture = crop.astype(np.float32) / 255
    chosen = rng.permutation(len(COLOURS))[: int(rng.integers(1, 4))]
    values = [np.asarray(COLOURS[list(COLOURS)[i]], np.float32) for i in chosen]
    own = float(hue_deg(values[0][None, None])[0, 0])
    gray = picture.mean(2, keepdims=True)
    like = cv2.GaussianBlur((apart_deg(hue_deg(picture), own) < NEAR_DEG).astype(np.float32), (0, 0), 1.5)[..., None]
    if rng.random() < 0.3:
        like = np.ones_like(like)
    picture = picture + like * (gray - picture)
    where = np.zeros((SIZE, SIZE), bool)
    for i, value in reversed(list(enumerate(values))):  # what is asked for comes last, in front
        place = shape(rng)
        if i and apart_deg(float(hue_deg(value[None, None])[0, 0]), own) < NEAR_DEG:
            continue
        shaded = rng.uniform(0.5, 1.0) + rng.uniform(0, 0.8) * (gray - gray.mean())
        thing = (value + rng.uniform(0, 0.15) * (1 - value)) * np.maximum(shaded, 0)
        thing = thing / np.maximum(thing.max(2, keepdims=True), 1)  # clipped, its hue would change
        soft = cv2.GaussianBlur(place.astype(np.float32), (0, 0), rng.uniform(0.4, 1.5))[..., None]
        picture = picture + soft * (thing - picture)
        where = place if i == 0 else where
    return np.rint(picture.clip(0, 1) * 255).astype(np.uint8), int(chosen[0]), where


_opened: list[tuple[Pictures, int]] = []


def _prepare(data: Path, seed: int) -> None:
    _opened[:] = [(Pictures(data), seed)]


def _make(index: int) -> tuple[np.ndarray, int, np.ndarray]:
    pictures, seed = _opened[0]
    rng = np.random.default_rng([seed, index, 1])
    picture, colour, where = painted(rng, pictures.crop(rng))
    share = cv2.resize(where.astype(np.float32), (PLACES, PLACES), interpolation=cv2.INTER_AREA)
    return picture, colour, np.rint(share * 255).astype(np.uint8)


def build_things(folder: Path, data: Path, vae: AutoencoderDC, count: int, seed: int, jobs: int) -> None:
    """``count`` pictures with a thing of a colour: their latents, numbers of the colours, and where the things are.

    A function of seed and data; ``jobs`` processes paint.
    """
    folder.mkdir(parents=True, exist_ok=True)
    latents = np.lib.format.open_memmap(folder / "things.npy", "w+", np.float16, (count, *LATENT))
    colours = np.lib.format.open_memmap(folder / "colours.npy", "w+", np.int8, (count,))
    places = np.lib.format.open_memmap(folder / "places.npy", "w+", np.uint8, (count, PLACES, PLACES))
    first, found = 0, made(_make, range(count), jobs, _prepare, data, seed)
    while group := tuple(islice(found, TOGETHER)):
        rows = slice(first, first + len(group))
        latents[rows] = encoded(vae, np.stack([picture for picture, _, _ in group]).astype(np.float32) / 255)
        colours[rows], places[rows] = [colour for _, colour, _ in group], np.stack([where for _, _, where in group])
        first += len(group)


@dataclass(frozen=True)
class Pointed(Tensors):
    """Latents (n, 16, h, w) at ``times`` (n,) and the v that is wanted of them; tokens (n, k), which of them names a
    thing's colour (n,), and where that is: (n, h, w), shares of places."""

    place: Tensor
    wanted: Tensor
    times: Tensor
    tokens: Tensor
    named: Tensor
    where: Tensor


@dataclass(frozen=True)
class Both(Tensors):
    """What a step of `Pointing` sees."""

    lesson: Lesson
    pointed: Pointed


class Pointing(Drawing[Editor, Both]):
    """The losses: those of `Rendering`; and of `POINTED` things the error of the reading, and of the v-prediction."""

    def __init__(self, folder: Path, tokenizer: CLIPTokenizer, batch: int = PICTURES) -> None:
        self._rendering = Rendering(folder, tokenizer, batch)
        self._arrays = [np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("things", "colours", "places")]
        self._ids = Ids(tokenizer, TOKENS)
        self._tokens = torch.tensor([tokenizer.convert_tokens_to_ids(f"{name}</w>") for name in COLOURS])
        self._products = DDIMScheduler(**SCHEDULE).alphas_cumprod

    def draw(self, rng: np.random.Generator, moment: Moment) -> Both:
        """Of both."""
        lesson = self._rendering.draw(rng, moment)
        rows = rng.integers(len(self._arrays[0]), size=POINTED)
        clean, colours, places = (torch.from_numpy(np.stack([array[i] for i in rows])) for array in self._arrays)
        ways = zip(rng.choice(WAYS, POINTED), rng.choice(SUBJECTS, POINTED), colours, strict=True)
        tokens = self._ids([str(way).format(colour=list(COLOURS)[i], subject=what) for way, what, i in ways])
        named = (tokens == self._tokens[colours.long()][:, None]).int().argmax(1)
        times = torch.from_numpy(rng.integers(*TIMES, size=POINTED))
        noise = torch.from_numpy(rng.standard_normal(clean.shape, dtype=np.float32))
        place, wanted = noised(clean.float(), noise, times, self._products)
        return Both(lesson, Pointed(place, wanted, times, tokens, named, places.float() / 255))

    def losses(self, model: Editor, batch: Both, moment: Moment) -> Mapping[str, Tensor]:
        """Of one step."""
        pointed, told = batch.pointed, model.text(batch.pointed.tokens)[0]
        with watched(model.unet) as notes:
            place = pointed.place.contiguous(memory_format=torch.channels_last)
            found = model.unet(place, pointed.times, told, return_dict=False)[0]
        own = {
            "thing": THING * F.mse_loss(found.float(), pointed.wanted),
            "read": READ * misread(notes, pointed),
        }
        return {**self._rendering.losses(model, batch.lesson, moment), **own}


def misread(notes: list[Tensor], pointed: Pointed) -> Tensor:
    """How far the reading of the named tokens is from `SHARE` at their things and none elsewhere: squared, of all."""
    errors = []
    for note in notes:
        side = round(note.shape[1] ** 0.5)
        wanted = SHARE * F.adaptive_avg_pool2d(pointed.where[:, None], side).flatten(1)
        found = note.gather(2, pointed.named[:, None, None].expand(-1, note.shape[1], 1))[..., 0]
        errors.append(F.mse_loss(found, wanted))
    return torch.stack(errors).mean()
