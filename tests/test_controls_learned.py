"""Maps of networks: what is missing is named, and what a detector finds comes back at the frame's own size."""

import subprocess
import sys

import pytest
import torch
from huggingface_hub import constants

from vrestore import controls_learned
from vrestore.controls import control_maps
from vrestore.controls_learned import LEARNED
from vrestore.errors import PriorError
from vrestore.weights.public import PUBLIC


@pytest.fixture(autouse=True)
def cached(tmp_path, monkeypatch):
    """An empty cache of the hub's client, and no detector in memory."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    controls_learned._loaded.cache_clear()
    yield tmp_path / "cache"
    controls_learned._loaded.cache_clear()


def place(cache, name, content):
    entry = PUBLIC[LEARNED[name].weights]
    folder = cache / f"models--{entry.repository.replace('/', '--')}" / "snapshots" / entry.revision
    folder.mkdir(parents=True)
    for file in entry.files:
        torch.save(content, folder / file)
    return folder


def maps(name, frame):
    return next(control_maps([name]).shot(iter(frame[None])))


@pytest.mark.parametrize("name", LEARNED)
def test_weights_that_are_missing_are_named(name):
    entry = PUBLIC[LEARNED[name].weights]
    with pytest.raises(PriorError, match=f"vrestore weights pull {LEARNED[name].weights} fetches {entry.repository}"):
        maps(name, torch.rand(3, 40, 56))


def test_a_package_that_is_missing_is_named(cached, monkeypatch):
    place(cached, "softedge-hed", {})
    monkeypatch.setitem(sys.modules, "controlnet_aux", None)
    with pytest.raises(PriorError, match=r'needs controlnet-aux .*; pip install "vrestore\[controls\]"'):
        maps("softedge-hed", torch.rand(3, 40, 56))


def test_a_detectors_map_has_the_size_of_the_frame(cached):
    """Of random weights, in an environment with the extra `controls`: it is what the detector says, brought back."""
    pytest.importorskip("timm", reason="the extra controls is not installed")
    package = controls_learned._package()
    network = package.hed.ControlNetHED_Apache2()
    folder = place(cached, "softedge-hed", network.state_dict())
    frame = torch.rand(3, 45, 83)
    found = maps("softedge-hed", frame)
    assert found.shape == frame.shape
    assert 0 <= found.min() < found.max() <= 1
    assert torch.equal(found, maps("softedge-hed", frame))
    (folder / "ControlNetHED.pth").write_bytes(b"damaged")
    controls_learned._loaded.cache_clear()
    with pytest.raises(PriorError, match="vrestore weights verify detector-hed"):
        maps("softedge-hed", frame)


def test_a_torchvision_that_does_not_fit_torch_is_mended(tmp_path):
    """One that fails as PyPI's does beside the CPU wheel; in a process of its own."""
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text(
        "import torch\n"
        "@torch.library.register_fake('torchvision::nms')\n"
        "def nms(dets, scores, iou_threshold): ...\n"
        "@torch.library.register_fake('torchvision::qnms')\n"
        "def qnms(dets, scores, iou_threshold): ...\n"
    )
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "try: import torchvision\n"
        "except RuntimeError as error: assert 'torchvision::nms does not exist' in str(error), error\n"
        "else: raise SystemExit('it was to fail')\n"
        "from vrestore.torchvision_mend import mend_torchvision\n"
        "assert mend_torchvision() and not mend_torchvision()\n"
        f"import torchvision; assert torchvision.__file__.startswith({str(tmp_path)!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
