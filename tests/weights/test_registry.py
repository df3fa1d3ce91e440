"""Public weights: fetched from a hub that is a folder, kept as its client keeps them, and checked."""

import hashlib
import json
import shutil

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from vrestore import cli
from vrestore.errors import ConfigError, PriorError
from vrestore.priors import find_prior
from vrestore.priors.hub import named_folder
from vrestore.weights import EMBEDDED, locate, registry
from vrestore.weights.public import PUBLIC, Public
from vrestore.weights.registry import Remote, listed, path_of, pull, verify

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = "controlnet-canny"


def blob(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Folder:
    """A hub whose repositories are folders, and a client that keeps files as that of the hub does."""

    def __init__(self, root):
        self.root, self.fetched = root, []

    def listing(self, repository, revision):
        found = {}
        for path in sorted((self.root / repository).rglob("*")):
            content = path.read_bytes()
            large = path.suffix == ".safetensors"
            found[path.name] = Remote(
                len(content), hashlib.sha256(content).hexdigest() if large else None, None if large else blob(content)
            )
        return found

    def fetch(self, repository, revision, files):
        place = constants.HF_HUB_CACHE + f"/models--{repository.replace('/', '--')}"
        said, folder = self.listing(repository, revision), registry.Path(place) / "snapshots" / revision
        for file in files:
            self.fetched.append(file)
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            kept = registry.Path(place) / "blobs" / (said[file].sha256 or said[file].blob)
            kept.parent.mkdir(exist_ok=True)
            shutil.copy(self.root / repository / file, kept)
            (folder / file).unlink(missing_ok=True)
            (folder / file).symlink_to(kept)
        return folder


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """With the files of one entry, and an empty cache."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "hub" / PUBLIC[NAME].repository
    folder.mkdir(parents=True)
    settings, weights = PUBLIC[NAME].files
    (folder / settings).write_text('{"_class_name": "ControlNetModel"}')
    save_file({"x": torch.randn(3)}, folder / weights)
    (folder / "other.bin").write_bytes(b"pickled")
    return Folder(tmp_path / "hub")


def test_what_is_missing_says_how_to_get_it(hub):
    with pytest.raises(
        PriorError, match=r"vrestore weights pull controlnet-canny fetches .*0\.72 GB, licence Creative"
    ):
        path_of(NAME)
    with pytest.raises(PriorError, match="vrestore weights pull sd15"):
        find_prior("sd15")
    assert {one.name: one.state for one in listed()}[NAME] == "missing"


def test_pulled_weights_are_here_and_as_they_should_be(hub):
    place = pull(NAME, hub)
    assert place == path_of(NAME)
    assert place.name == PUBLIC[NAME].revision
    assert hub.fetched == list(PUBLIC[NAME].files)
    assert {path.name for path in place.iterdir()} == set(PUBLIC[NAME].files)
    assert {one.name: one.state for one in listed()}[NAME] == "here"
    assert verify(NAME) == {}


@pytest.mark.parametrize("record", [True, False])
def test_damage_is_found_later(hub, record):
    """By what the hub said when it was pulled, or by the names in the client's cache."""
    place = pull(NAME, hub)
    if not record:
        registry._record(NAME).unlink()
    assert verify(NAME) == {}
    settings, weights = PUBLIC[NAME].files
    content = bytearray((place / weights).read_bytes())
    content[-1] ^= 1
    (place / weights).resolve().write_bytes(bytes(content))
    assert list(verify(NAME)) == [weights]
    (place / settings).resolve().write_text("{}")
    assert set(verify(NAME)) == {settings, weights}
    assert verify(NAME)[weights].startswith("damaged")


def test_a_copy_of_unknown_origin_is_told(hub):
    folder = pull(NAME, hub)
    registry._record(NAME).unlink()
    for path in list(folder.iterdir()):
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)
    assert {wrong.partition(":")[0] for wrong in verify(NAME).values()} == {"unknown"}


def test_what_comes_damaged_is_refused(hub, monkeypatch):
    whole = hub.listing

    def listing(repository, revision):
        settings = PUBLIC[NAME].files[0]
        found = whole(repository, revision)
        return found | {settings: Remote(found[settings].size, None, "0" * 40)}

    fetch = hub.fetch
    monkeypatch.setattr(hub, "fetch", lambda *a: (monkeypatch.setattr(hub, "listing", whole), fetch(*a))[1])
    monkeypatch.setattr(hub, "listing", listing)
    with pytest.raises(PriorError, match=r"config.json is damaged: not what lllyasviel/.* says of it; pull again"):
        pull(NAME, hub)


def test_a_repository_that_lacks_a_file_and_a_hub_that_cannot_be_reached(hub, monkeypatch):
    (hub.root / PUBLIC[NAME].repository / PUBLIC[NAME].files[1]).unlink()
    with pytest.raises(PriorError, match=r"has no diffusion_pytorch_model\.fp16\.safetensors"):
        pull(NAME, hub)
    assert hub.fetched == []
    with pytest.raises(PriorError, match=r"could not be fetched \(.*check the network and HF_HUB_OFFLINE"):
        pull(NAME)


def test_an_option_may_name_them(hub, monkeypatch):
    """`--controlnet controlnet-canny`; fetched where `--download` allows it."""
    with pytest.raises(PriorError, match="vrestore weights pull controlnet-canny"):
        named_folder(NAME, download=False)
    monkeypatch.setattr(registry, "_hugging_face", lambda: hub)
    assert named_folder(NAME, download=True) == path_of(NAME) == named_folder(NAME, download=False)
    assert named_folder("some/folder", download=False) == registry.Path("some/folder")


def test_a_file_that_an_option_names(hub, monkeypatch):
    entry = Public("someone/lora", COMMIT, ("lora.safetensors",), 1, "MIT", "--lora", "lora.safetensors")
    monkeypatch.setitem(PUBLIC, "lora", entry)
    (hub.root / "someone" / "lora").mkdir(parents=True)
    save_file({"x": torch.zeros(1)}, hub.root / "someone" / "lora" / "lora.safetensors")
    assert pull("lora", hub) == path_of("lora")
    assert path_of("lora").name == "lora.safetensors"
    assert verify("lora") == {}


def test_entries_are_pinned_and_networks_are_no_pickles():
    for name, entry in PUBLIC.items():
        assert len(entry.revision) == 40, name
        assert int(entry.revision, 16)
        assert entry.licence
        if not name.startswith("detector-"):  # of which torch reads tensors and nothing else
            assert all(file.endswith((".json", ".txt", ".safetensors")) for file in entry.files)
        assert name not in EMBEDDED
        assert not entry.main or entry.main in entry.files


def test_embedded_weights_are_here_and_whole(monkeypatch, tmp_path):
    for name in EMBEDDED:
        assert path_of(name) == pull(name) == locate(name)
        assert verify(name) == {}
    copy = shutil.copytree(locate(EMBEDDED[0]), tmp_path / "copy")
    file = sorted(copy.rglob("*.safetensors"))[0]
    file.write_bytes(file.read_bytes()[:-10])
    monkeypatch.setattr(registry, "locate", lambda name: copy)
    ((found, wrong),) = verify(EMBEDDED[0]).items()
    assert found == str(file.relative_to(copy))
    assert wrong.startswith("damaged")


def test_a_name_that_there_is_not():
    for call in (path_of, pull, verify):
        with pytest.raises(ConfigError, match=r"no weights 'sd9'; there are restoration, .*sd15, "):
            call("sd9")


# ---------------------------------------------------------------- the command


def run(capsys, *args):
    code = cli.main(["weights", *args])
    out = capsys.readouterr()
    return code, out.out, out.err


def test_the_command_lists_and_verifies(hub, capsys):
    code, out, _ = run(capsys, "list")
    assert code == 0
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert "missing" in lines["sd15"]
    assert "CreativeML Open RAIL-M" in lines["sd15"]
    assert "embedded" in lines["restoration"]
    code, out, _ = run(capsys, "verify")
    assert (code, out.splitlines()[0]) == (0, "restoration  as it should be")
    place = pull(NAME, hub)
    assert run(capsys, "path", NAME)[:2] == (0, f"{place}\n")
    (place / PUBLIC[NAME].files[0]).resolve().write_text("{ }")
    code, out, _ = run(capsys, "verify", NAME, "--json")
    assert code == 1
    assert json.loads(out)[NAME][PUBLIC[NAME].files[0]].startswith("damaged")


def test_the_command_says_what_is_wrong(hub, capsys):
    code, out, err = run(capsys, "path", "sd15")
    assert (code, out) == (1, "")
    assert "vrestore weights pull sd15" in err
    assert run(capsys, "pull", "sd15")[0] == 1
    assert run(capsys, "path", "nothing")[0] == 2
    assert run(capsys, "pull")[0] == 2
