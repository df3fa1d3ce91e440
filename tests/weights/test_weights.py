"""The embedded weights: found by name, each with its card, small, and never imported as a second copy."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vrestore import weights
from vrestore.errors import PriorError
from vrestore.priors import FAMILIES, find_prior
from vrestore.priors.folder import part_folder
from vrestore.weights import EMBEDDED, locate

ROOT = Path(__file__).parents[2]
MAX_BYTES = 40_000_000


@pytest.mark.parametrize("name", ["upscaler", "", "recipe", "../weights", "."])
def test_unknown_names_are_refused(name):
    with pytest.raises(PriorError, match=r"embedded are restoration") as caught:
        locate(name)
    assert repr(name) in str(caught.value)


def test_weights_that_were_not_installed_are_refused(monkeypatch):
    monkeypatch.setattr(weights, "EMBEDDED", ("restoration", "absent"))
    with pytest.raises(PriorError, match=r"'absent' in this installation"):
        locate("absent")


def test_import_weights_from_the_checkout_refuses():
    done = subprocess.run(
        [sys.executable, "-c", "import weights"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 1
    assert "ImportError: import this as vrestore.weights" in done.stderr


@pytest.mark.parametrize("name", EMBEDDED)
def test_every_embedded_prior_is_complete(name):
    folder = locate(name)
    index = json.loads((folder / "model_index.json").read_text())
    assert index["_class_name"] in FAMILIES
    parts = {part for part, value in index.items() if not part.startswith("_") and isinstance(value, list)}
    shared = set(index.get("_shared", ()))
    assert {p.name for p in folder.iterdir() if p.is_dir()} == parts - shared
    for part in parts:
        files = {p.suffix for p in part_folder(folder, part).iterdir()} - {".md"}
        assert files in ({".json", ".safetensors"}, {".json"}, {".json", ".txt"})
        assert ".safetensors" in files or part in ("scheduler", "tokenizer")


@pytest.mark.parametrize("name", EMBEDDED)
def test_every_embedded_prior_has_a_card(name):
    card = ROOT / "weights" / name / "README.md"
    assert card.is_file()
    text = card.read_text(encoding="utf-8")
    assert text.startswith("---\nlicense: ") or text.startswith("# ")
    assert find_prior(name).facts.licence.lower() in text.lower()


def test_the_embedded_weights_are_small():
    code = {"recipe", "__pycache__"}
    files = [p for p in (ROOT / "weights").rglob("*") if p.is_file() and not code.intersection(p.parts)]
    stored = sum(p.stat().st_size for p in files)
    assert 0 < stored <= MAX_BYTES, f"{stored} bytes"


@pytest.mark.parametrize("name", EMBEDDED)
def test_every_embedded_prior_loads_and_is_finite(name):
    source = find_prior(name)
    prior = source.load(torch.device("cpu"), torch.float32)
    frames = torch.rand(1, 3, 32, 32)
    latents = prior.encode(frames)
    assert latents.shape == (1, source.facts.latent_channels, *(32 // source.facts.spatial_factor,) * 2)
    assert torch.isfinite(latents).all()
    (conditioning,) = prior.conditions([frames[0]])
    conditioning |= prior.surroundings(None, conditioning, None)
    assert torch.isfinite(prior.decode(latents, {k: v[None] for k, v in conditioning.items()})).all()
