"""What every test runs under: few threads, fixed and restored random state, no network."""

import os

os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # before torch and numpy load; oversubscription costs far more than it gives
os.environ["HF_HUB_OFFLINE"] = "1"

import random
import shutil
import socket
import sys
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

cv2.setNumThreads(1)
sys.path.append(str(Path(__file__).parent))  # modules that tests share


@pytest.fixture(autouse=True)
def fixed_randomness():
    """Every test starts from the same random state and leaves none behind."""
    torch = sys.modules.get("torch")
    states = random.getstate(), np.random.get_state(), torch.get_rng_state() if torch else None
    random.seed(0)
    np.random.seed(0)
    if torch:
        torch.set_num_threads(1)
        torch.manual_seed(0)
    yield
    random.setstate(states[0])
    np.random.set_state(states[1])
    if torch:
        torch.set_rng_state(states[2])


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """A connection to anywhere is an error: nothing in the tests downloads."""

    def refuse(self, address):
        raise OSError(f"tests have no network; something connects to {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)


# ---------------------------------------------------------------- clips and a prior for the engine and the heads


def scene(frames, size, seed=0):
    """Smooth random texture under a slow pan, uint8 (frames, height, width, 3): something like a photograph."""
    height, width = size
    random_state = np.random.default_rng(seed)
    canvas = np.zeros((height + frames, width + 2 * frames, 3))
    for octave in range(5):
        coarse = random_state.normal(size=(3 + 2**octave, 4 + 2**octave, 3)) / 1.6**octave
        canvas += cv2.resize(coarse, canvas.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    canvas = np.clip(127 + 45 * canvas, 0, 255).round().astype(np.uint8)
    return np.stack([canvas[i : i + height, 2 * i : 2 * i + width] for i in range(frames)])


def write_clip(path, frames, *, pts=None, audio=False, lossless=True):
    """Frames (time, height, width, 3) at 25 fps, exactly as they are (FFV1, RGB) or as H.264; stereo Opus if asked."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1" if lossless else "libx264", rate=25)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "bgr0" if lossless else "yuv420p" if not (stream.height | stream.width) & 1 else "yuv444p"
        sound = container.add_stream("libopus" if lossless else "aac", rate=48000) if audio else None
        for i, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = i if pts is None else pts[i], Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound is not None:
            write_sound(container, sound, len(frames) / 25)
    return path


def write_sound(container, sound, seconds):
    """Noise, so that no two packets are alike."""
    import av

    noise = np.random.default_rng(0)
    for start in range(0, int(seconds * 48000), 960):
        samples = (noise.random((2, 960), dtype=np.float32) - 0.5) / 2
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
        container.mux(sound.encode(frame))
    container.mux(sound.encode(None))


def read_clip(path):
    """Frames uint8 (time, height, width, 3) and their times in seconds."""
    from vrestore.video import open_reader

    with open_reader(path) as reader:
        frames = list(reader.frames())
        times = [frame.pts * reader.info.time_base for frame in frames]
    return np.stack([np.rint(f.rgb * 255).astype(np.uint8).transpose(1, 2, 0) for f in frames]), times


def audio_packets(path):
    """Bytes of every packet of the first audio stream."""
    import av

    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(container.streams.audio[0]) if packet.size]


@pytest.fixture
def clips():
    """Helpers for clips, as tests cannot import this module."""
    return SimpleNamespace(scene=scene, write=write_clip, read=read_clip, audio_packets=audio_packets)


@pytest.fixture
def identity_head(monkeypatch):
    """The head that changes nothing, for the engine of this process."""
    import importlib.util

    import vrestore.priors

    path = Path(__file__).parent / "identity" / "identity_head.py"
    spec = importlib.util.spec_from_file_location("identity_head", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "identity_head", module)
    monkeypatch.setitem(vrestore.priors.FAMILIES, "IdentityPrior", "identity_head")
    spec.loader.exec_module(module)
    return lambda **settings: module.Identity(module.IdentityConfig(**{"window": 5, "overlap": 2} | settings))


@pytest.fixture(scope="session")
def tiny_prior(tmp_path_factory):
    """A folder with a very small embedded prior of random weights, in the layout of the one that is shipped.

    Layers that start at zero get random weights too: time, motion and neighbours all have their say.
    """
    import torch

    from vrestore.priors.embedded_nets import BridgeVideoDenoiser, GuidedAutoencoder
    from vrestore.priors.recurrent import RecurrentGuide

    folder = tmp_path_factory.mktemp("priors") / "tiny"
    with torch.random.fork_rng():
        torch.manual_seed(5)
        vae = GuidedAutoencoder(width=8, latent_width=8, decoder_blocks=1)
        unet = BridgeVideoDenoiser(width=8, deep_width=8, depth=(1, 1, 2))
        guide = RecurrentGuide(width=8, depth=1, channels=8)
        for parameter in [*unet.parameters(), *guide.parameters()]:
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.5)
    vae.save_pretrained(folder / "vae")
    unet.save_pretrained(folder / "unet")
    guide.save_pretrained(folder / "guide")
    (folder / "model_index.json").write_text('{"_class_name": "EmbeddedPrior"}')
    return folder


@pytest.fixture(scope="session")
def tiny_between_prior(tiny_prior, tmp_path_factory):
    """The same networks as a prior for pictures between two frames."""
    folder = tmp_path_factory.mktemp("priors") / "tiny_between"
    shutil.copytree(tiny_prior, folder, ignore=shutil.ignore_patterns("guide"))
    (folder / "model_index.json").write_text('{"_class_name": "InterpolationPrior"}')
    return folder


@pytest.fixture(scope="session")
def tiny_depth_prior(tmp_path_factory):
    """A very small prior of depth of random weights, in the layout of the embedded one: its autoencoder lies beside."""
    import torch
    from diffusers import AutoencoderDC

    from vrestore.weights.recipe.depth import DepthNetwork, export

    root = tmp_path_factory.mktemp("priors")
    with torch.random.fork_rng():
        torch.manual_seed(8)
        AutoencoderDC(
            latent_channels=16, attention_head_dim=4, encoder_block_types="ResBlock", decoder_block_types="ResBlock",
            encoder_block_out_channels=(8, 8, 8, 16), decoder_block_out_channels=(8, 8, 8, 16),
            encoder_layers_per_block=(1, 1, 1, 1), decoder_layers_per_block=(1, 1, 1, 1),
            encoder_qkv_multiscales=((), (), (), ()), decoder_qkv_multiscales=((), (), (), ()), scaling_factor=0.8,
        ).save_pretrained(root / "autoencoder")  # fmt: skip
        export(DepthNetwork((16, 16)), root / "tiny_depth")
    return root / "tiny_depth"


@pytest.fixture(scope="session")
def small_priors():
    """The module of tests/priors that makes very small networks, and saves what lies beside them."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("small_priors", Path(__file__).parent / "priors" / "conftest.py")
    small = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(small)
    return small


@pytest.fixture(scope="session")
def tiny_edit(small_priors, tmp_path_factory):
    """A very small prior for editing, of random weights: SD 1.5's layout with a ControlNet; see tests/priors."""
    import torch
    from diffusers import ControlNetModel

    folder = tmp_path_factory.mktemp("priors") / "tiny_edit"
    with torch.random.fork_rng():
        torch.manual_seed(7)
        small_priors.save_text(folder)
        small_priors.small_vae(4, 0.18215).save_pretrained(folder / "vae")
        unet = small_priors.small_unet(4, None)
        unet.save_pretrained(folder / "unet")
        control = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(4, 8, 8, 16))
        small_priors.awake(control).save_pretrained(folder / "controlnet")
    small_priors.save_scheduler(folder / "scheduler", timestep_spacing="trailing", **small_priors.DDIM)
    small_priors.save_index(folder, "StableDiffusionControlNetPipeline", controlnet=["diffusers", "ControlNetModel"])
    return folder
