"""Comparing files: what is measured against what, and what is drawn. The clips are lossless and made here."""

import json
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from vrestore import cli, metrics
from vrestore.comparison import CompareConfig, compare
from vrestore.errors import ConfigError, MissingInputError
from vrestore.montage import GAP_PX
from vrestore.video import open_reader

HEIGHT, WIDTH = 48, 64
IN_TIME = {"warp", "warp_rel", "tof", "jump"}


def clip(frames=4, seed=0):
    """A pan over a texture, uint8 (frames, height, width, 3)."""
    noise = np.random.default_rng(seed).normal(size=(20, 30, 3))
    scene = metrics.to_uint8(128 + 90 * metrics.resize(noise, 80, 120))
    return np.stack([scene[t : t + HEIGHT, 2 * t : 2 * t + WIDTH] for t in range(frames)])


def write(path, frames):
    """FFV1 in RGB: what is read back is what was written."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=Fraction(25), options={"slices": "4"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "bgr0"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode(None))
    return path


def reduced(frames):
    return np.stack([metrics.to_uint8(metrics.resize(f, HEIGHT // 4, WIDTH // 4)) for f in frames])


def noisy(frames, step=4):
    sign = np.random.default_rng(1).choice([-step, step], frames.shape)
    return np.clip(frames.astype(int) + sign, 0, 255).astype(np.uint8)


@pytest.fixture
def files(tmp_path):
    """The truth, a noisy version and a reduction of it."""
    truth = clip()
    versions = {"truth": truth, "noisy": noisy(truth), "low": reduced(truth)}
    return {name: write(tmp_path / f"{name}.mkv", frames) for name, frames in versions.items()}


def read(path):
    with open_reader(path) as reader:
        return np.stack([np.rint(frame.rgb.transpose(1, 2, 0) * 255) for frame in reader.frames()]).astype(np.uint8)


def test_a_file_against_itself(files):
    result = compare(files["truth"], files["truth"])
    assert (result.reference, result.frames, result.width, result.height) == ("a", 4, WIDTH, HEIGHT)
    assert set(result.scores) == {"b"}
    scores = result.scores["b"]
    assert scores["psnr_y"] == scores["psnr_rgb"] == 100
    assert scores["warp_rel"] == pytest.approx(1)
    assert scores["tof"] == 0


def test_both_are_measured_against_the_truth(files):
    result = compare(files["low"], files["noisy"], CompareConfig(ref=files["truth"], lowres=files["low"]))
    assert result.reference == "ref"
    assert set(result.scores) == {"a", "b"}
    assert (result.width, result.height) == (WIDTH, HEIGHT)
    truth = clip()
    enlarged = [metrics.to_uint8(metrics.resize(low, HEIGHT, WIDTH)) for low in reduced(truth)]
    for role, frames in (("a", enlarged), ("b", noisy(truth))):
        for name in ("psnr_y", "psnr_rgb", "ssim_y"):
            expected = np.mean([getattr(metrics, name)(f, t) for f, t in zip(frames, truth, strict=True)])
            assert result.scores[role][name] == pytest.approx(expected, rel=1e-12)


def test_the_truth_is_consistent_with_its_reduction(files):
    result = compare(files["noisy"], files["truth"], CompareConfig(lowres=files["low"]))
    assert result.scores["b"]["consistency"] == 100


def test_every_counts_frames_for_the_slow_measures(files):
    truth, worse = clip(), noisy(clip())
    scores = compare(files["noisy"], files["noisy"], CompareConfig(ref=files["truth"], every=3)).scores["a"]
    assert scores["gmsd"] == pytest.approx(np.mean([metrics.gmsd(worse[t], truth[t]) for t in (0, 3)]), rel=1e-12)


def test_a_seam_is_measured_at_the_given_bounds(files):
    scores = compare(files["truth"], files["noisy"], CompareConfig(bounds=(2,))).scores["b"]
    assert scores["seam"] == pytest.approx(1, abs=0.3)


def test_stills_have_no_measures_over_time(tmp_path):
    for name, frame in zip("ab", clip(2), strict=True):
        Image.fromarray(frame).save(tmp_path / f"{name}.png")
    scores = compare(tmp_path / "a.png", tmp_path / "b.png").scores["b"]
    assert scores["psnr_rgb"] == pytest.approx(metrics.psnr_rgb(*clip(2)), rel=1e-12)
    assert IN_TIME.isdisjoint(scores)


def test_what_a_flat_reference_cannot_tell_is_left_out(tmp_path):
    flat = write(tmp_path / "flat.mkv", np.full((2, HEIGHT, WIDTH, 3), 90, np.uint8))
    result = compare(flat, flat)
    assert "vif" not in result.scores["b"]
    assert "VIF" not in [row[0] for row in result.rows()]


def test_rows_have_a_column_per_file(files):
    rows = compare(files["low"], files["noisy"], CompareConfig(ref=files["truth"])).rows()
    assert rows[0] == ("measure", "a: low.mkv", "b: noisy.mkv", "better")
    assert {len(row) for row in rows} == {4}
    assert rows[1][0] == "PSNR-Y (dB)"


def test_progress_is_told_after_every_frame(files):
    told = []
    compare(files["truth"], files["noisy"], progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


# ---------------------------------------------------------------- what does not fit


def test_lengths_must_agree(files, tmp_path):
    shorter = write(tmp_path / "shorter.mkv", clip(3))
    with pytest.raises(ConfigError, match=r"truth\.mkv has 4 frames and .*shorter\.mkv has 3"):
        compare(files["truth"], shorter)


def test_aspect_ratios_must_agree(files, tmp_path):
    square = write(tmp_path / "square.mkv", clip()[:, :, :HEIGHT])
    with pytest.raises(ConfigError, match=r"is 64x48 and .* is 48x48"):
        compare(files["truth"], square)


def test_a_missing_file_is_named(files, tmp_path):
    with pytest.raises(MissingInputError, match=r"nowhere\.mkv"):
        compare(files["truth"], tmp_path / "nowhere.mkv")


@pytest.mark.parametrize(
    ("setting", "message"),
    [({"crop": -1}, "crop is -1"), ({"every": 0}, "every is 0"), ({"bounds": (0, 8)}, r"bounds are \(0, 8\)")],
)
def test_settings_out_of_range(setting, message):
    with pytest.raises(ConfigError, match=message):
        CompareConfig(**setting)


# ---------------------------------------------------------------- side by side


def panels(row, count):
    """The panels of a montage under its banner."""
    columns = [row[-HEIGHT:, i * (WIDTH + GAP_PX) :][:, :WIDTH] for i in range(count)]
    assert row.shape[1] == count * WIDTH + (count - 1) * GAP_PX
    return columns


def test_a_picture_shows_the_middle_frame_of_all(files, tmp_path):
    target = tmp_path / "both.png"
    compare(files["noisy"], files["noisy"], CompareConfig(ref=files["truth"], side_by_side=target))
    left, middle, right = panels(np.asarray(Image.open(target)), 3)
    np.testing.assert_array_equal(left, noisy(clip())[2])
    np.testing.assert_array_equal(middle, left)
    np.testing.assert_array_equal(right, clip()[2])


def test_a_picture_shows_the_frame_asked_for(files, tmp_path):
    target = tmp_path / "both.png"
    compare(files["truth"], files["noisy"], CompareConfig(side_by_side=target, frame=1))
    np.testing.assert_array_equal(panels(np.asarray(Image.open(target)), 2)[0], clip()[1])


def test_a_video_shows_every_frame(files, tmp_path):
    target = tmp_path / "both.mkv"
    compare(files["truth"], files["noisy"], CompareConfig(side_by_side=target))
    rows = read(target)  # a lossless input makes a lossless montage
    assert len(rows) == 4
    np.testing.assert_array_equal(np.stack([panels(row, 2)[0] for row in rows]), clip())


def test_names_are_written_above_the_panels(files, tmp_path):
    target = tmp_path / "both.png"
    compare(files["truth"], files["noisy"], CompareConfig(side_by_side=target))
    banner = np.asarray(Image.open(target))[:-HEIGHT]
    assert (banner[:, :WIDTH] > 200).any()
    assert (banner[:, -WIDTH:] > 200).any()


def test_an_interrupted_comparison_leaves_nothing(files, tmp_path):
    def stop(done, total):
        raise KeyboardInterrupt

    before = set(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt):
        compare(files["truth"], files["noisy"], CompareConfig(side_by_side=tmp_path / "both.mkv"), progress=stop)
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize(("frame", "name"), [(4, "both.png"), (-1, "both.png"), (0, "both.nonsense")])
def test_a_montage_that_cannot_be_made(files, tmp_path, frame, name):
    with pytest.raises(ConfigError):
        compare(files["truth"], files["noisy"], CompareConfig(side_by_side=tmp_path / name, frame=frame))


def test_stills_make_no_video(tmp_path):
    Image.fromarray(clip()[0]).save(tmp_path / "a.png")
    with pytest.raises(ConfigError, match=r"give a name ending in \.png"):
        compare(tmp_path / "a.png", tmp_path / "a.png", CompareConfig(side_by_side=tmp_path / "both.mkv"))


# ---------------------------------------------------------------- the command


def test_the_command_prints_a_table(files, capsys):
    assert cli.main(["compare", str(files["low"]), str(files["noisy"]), "--ref", str(files["truth"]), "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert cli.main(["compare", str(files["low"]), str(files["noisy"]), "--ref", str(files["truth"])]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0].split() == ["measure", "a:", "low.mkv", "b:", "noisy.mkv", "better"]
    assert "compare: 4/4 frames" in err


def test_the_command_prints_json(files, capsys):
    arguments = ["--lowres", str(files["low"]), "--bounds", "1,2", "--json", "--quiet"]
    assert cli.main(["compare", str(files["truth"]), str(files["noisy"]), *arguments]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["files"]["lowres"] == str(files["low"])
    expected = compare(files["truth"], files["noisy"], CompareConfig(lowres=files["low"], bounds=(1, 2)))
    assert printed["scores"]["b"] == pytest.approx(dict(expected.scores["b"]))


def test_the_command_refuses_what_does_not_fit(files, tmp_path, capsys):
    assert cli.main(["compare", str(files["truth"]), str(write(tmp_path / "two.mkv", clip(2)))]) == 2
    assert "cut the longer one first" in capsys.readouterr().err
