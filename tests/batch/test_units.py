"""Which files of a tree are clips, what their outputs are called, and that nothing is written outside."""

import os

import pytest

from vrestore.batch.config import BatchConfig
from vrestore.batch.units import check_folders, find_units, make_place, output_name
from vrestore.errors import ConfigError, MissingInputError, OutputError


@pytest.fixture
def tree(tmp_path):
    """make(*names) -> a folder with these files, empty; a name that ends with / is a folder."""

    def make(*names):
        folder = tmp_path / "in"
        folder.mkdir(exist_ok=True)
        for name in names:
            path = folder / name
            (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
            if not name.endswith("/"):
                path.touch()
        return folder

    return make


def found(folder, target, **settings):
    return find_units(folder, target, BatchConfig(**settings))


def test_the_tree_is_mirrored_and_what_is_no_clip_is_counted(tree, tmp_path):
    folder = tree(
        "b.mkv", "a.MOV", "notes.txt", "c.srt", "._a.MOV", ".DS_Store", "deep/er/d.png", "job.mkv.vrestore/s.nut"
    )
    os.mkfifo(folder / "pipe.mkv")
    flat = found(folder, tmp_path / "out")
    assert [(unit.source, unit.target) for unit in flat.units] == [("a.MOV", "a.MOV"), ("b.mkv", "b.mkv")]
    assert flat.ignored == {
        ".srt": 1,
        ".txt": 1,
        "hidden": 2,
        "job folders": 1,
        "neither files nor folders": 1,
    }
    deep = found(folder, tmp_path / "out", recursive=True)
    assert [unit.target for unit in deep.units] == ["a.MOV", "b.mkv", "deep/er/d.png"]


@pytest.mark.parametrize(
    ("pattern", "sources"),
    [("a*", ["a1.mkv", "deep/a2.mov"]), ("*.mov", ["deep/a2.mov"]), ("deep/*", ["deep/a2.mov", "deep/b.mkv"])],
)
def test_a_pattern_chooses_by_name_or_with_a_slash_by_path(tree, tmp_path, pattern, sources):
    folder = tree("a1.mkv", "deep/a2.mov", "deep/b.mkv")
    assert [unit.source for unit in found(folder, tmp_path / "out", recursive=True, pattern=pattern).units] == sources


def test_names_do_not_depend_on_the_neighbours():
    assert [output_name(name, None) for name in ("a.mp4", "a.avi", "d/a.TS", "a.png")] == [
        "a.mp4",
        "a.avi.mkv",
        "d/a.TS.mkv",
        "a.png",
    ]
    assert [output_name(name, ".mkv") for name in ("a.mp4", "a.MKV")] == ["a.mp4.mkv", "a.MKV"]


def test_two_inputs_of_one_output_name_are_refused_and_the_rest_goes_on(tree, tmp_path):
    folder = tree("a.avi", "a.avi.mkv", "b.mp4", "B.mp4", "e\u0301.mkv", "\u00e9.mkv", "c.mov", "c.mp4")
    result = found(folder, tmp_path / "out")
    assert [unit.source for unit in result.units] == ["c.mov", "c.mp4"]
    clashes = {unit.source: why for unit, why in result.clashes}
    assert len(clashes) == 6
    assert clashes["a.avi"] == "its output a.avi.mkv would take the name of that of a.avi.mkv; rename one"


def test_links_are_read_but_not_followed_and_outputs_are_no_inputs(tree, tmp_path):
    folder = tree("a.mkv", "out/done.mkv", "sub/b.mkv")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "far.mkv").touch()
    (folder / "link.mkv").symlink_to(elsewhere / "far.mkv")
    (folder / "linked").symlink_to(elsewhere)
    (folder / "loop").symlink_to(folder)
    (folder / "self.mkv").symlink_to(folder / "self.mkv")
    (folder / "gone.mkv").symlink_to(folder / "nothing.mkv")
    (folder / "made.mkv").symlink_to(folder / "out" / "done.mkv")
    result = found(folder, folder / "out", recursive=True)
    assert [unit.source for unit in result.units] == ["a.mkv", "link.mkv", "sub/b.mkv"]
    assert result.ignored == {"broken links": 2, "links to folders": 2, "outputs": 2}


def test_outputs_stay_below_their_folder(tmp_path):
    root, outside = tmp_path / "out", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    assert make_place(root, "a/b/c.mkv") == root / "a" / "b" / "c.mkv"
    assert (root / "a" / "b").is_dir()
    (root / "away").symlink_to(outside)
    for target, why in {
        "away/deep/c.mkv": "is a link that leads out of",
        "../c.mkv": "leads out of",
        "/c.mkv": "leads out of",
        "a/b": "is a folder",
    }.items():
        with pytest.raises(OutputError, match=why):
            make_place(root, target)
    (root / "file").touch()
    with pytest.raises(OutputError, match="cannot be made: File exists"):
        make_place(root, "file/c.mkv")
    assert list(outside.iterdir()) == []


def test_folders_that_cannot_be(tree, tmp_path):
    folder = tree("a.mkv")
    for source, target, kind, why in [
        (tmp_path / "none", tmp_path / "out", MissingInputError, "does not exist"),
        (folder / "a.mkv", tmp_path / "out", ConfigError, "is no folder; for one clip"),
        (folder, folder, ConfigError, "lies in the output folder"),
        (folder, tmp_path, ConfigError, "lies in the output folder"),
        (folder, folder / "a.mkv", OutputError, "is no folder; name another"),
    ]:
        with pytest.raises(kind, match=why):
            check_folders(source, target)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".vrestore").symlink_to(tmp_path)
    with pytest.raises(OutputError, match="is a link"):
        check_folders(folder, tmp_path / "out")


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"jobs": 0}, "jobs is 0; give 1 or more"),
        ({"attempts": 0}, "attempts is 0"),
        ({"lease": 0.5}, "lease is 0.5; give 1 to 86400"),
        ({"pattern": ""}, "pattern is empty"),
        ({"suffix": "mkv"}, "suffix is 'mkv'; give one such as .mkv"),
        ({"suffix": "./../x"}, "suffix is"),
        ({"suffix": ""}, "suffix is ''"),
        ({"ray_cpus": 0}, "ray_cpus is 0"),
        ({"ray_gpus": -1.0}, "ray_gpus is -1.0"),
    ],
)
def test_settings_out_of_range(settings, why):
    with pytest.raises(ConfigError, match=why):
        BatchConfig(**settings)
