"""Parts of a prior: in its folder, or shared with another prior."""

import json

import pytest

from vrestore.errors import PriorError
from vrestore.prior_options import PriorOptions
from vrestore.priors import find_prior
from vrestore.priors.folder import licence_of, part_folder


def test_a_part_lies_in_the_folder_where_nothing_else_is_said(tmp_path):
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "Any"}))
    assert part_folder(tmp_path, "vae") == tmp_path / "vae"


def test_a_shared_part_lies_where_the_index_says(tmp_path):
    folder = tmp_path / "editing"
    folder.mkdir()
    (folder / "model_index.json").write_text(json.dumps({"_shared": {"vae": "../autoencoder"}}))
    assert part_folder(folder, "vae") == tmp_path.resolve() / "autoencoder"
    assert part_folder(folder, "unet") == folder / "unet"


def test_a_shared_part_that_is_no_path_is_refused(tmp_path):
    (tmp_path / "model_index.json").write_text(json.dumps({"_shared": {"vae": 3}}))
    with pytest.raises(PriorError, match="gives 3 as the shared folder of vae"):
        part_folder(tmp_path, "vae")


def test_the_licence_is_the_weights_own_where_they_say_so(tmp_path):
    assert licence_of(tmp_path, "usual") == "usual"
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "Any"}))
    assert licence_of(tmp_path, "usual") == "usual"
    (tmp_path / "model_index.json").write_text(json.dumps({"_licence": "Apache-2.0"}))
    assert licence_of(tmp_path, "usual") == "Apache-2.0"


def test_a_folder_may_say_what_is_usual(tmp_path):
    (tmp_path / "model_index.json").write_text(
        json.dumps({"_class_name": "StableDiffusionPipeline", "_usual": {"strength": 0.7, "prompt": "no"}})
    )
    assert find_prior(str(tmp_path)).options.strength == 0.7
    assert find_prior(str(tmp_path)).options.prompt is None
    assert find_prior(str(tmp_path), PriorOptions(strength=0.4)).options.strength == 0.4
