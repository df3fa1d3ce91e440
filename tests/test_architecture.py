"""The shape of the package: what may import what, what is packaged, what an import costs, how long a file may be."""

import ast
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

import vrestore

ROOT = Path(__file__).parents[1]
FOLDERS = {"vrestore": ROOT / "vrestore", "vrestore.tasks": ROOT / "tasks", "vrestore.weights": ROOT / "weights"}

LEVELS = {
    0: "errors shapes",
    1: "plan plan.* video video.* degradation weights weights.public weights.registry metrics temporal clock padding "
    "report settings timeline prompts torchvision_mend bicubic neighbours spool",
    2: "noise sampling guidance flow luma gather structure edges exposure blending unblending propagation prior "
    "prior_options conditioning device memory registration steadying parallax fusion noise_sources "
    "denoising detail reduction",
    3: "executor inversion store checkpoint priors priors.* attention attention_bank attention_layers controls "
    "controls_learned task zero_shot shutter direction masks spectral synthesis attention_time plans "
    "attention_history attention_subject",
    4: "engine engine.* job preparing needs walk calls depth_walk depth_finish depth_refine depth_control mapping "
    "entries retime extras span tally segments making making_walk ends errand maker",
    5: "tasks tasks.*",
    6: "__init__ batch batch.* comparison montage preset record weights.recipe weights.recipe.*",
    7: "cli cli_batch cli_make cli_options cli_preset cli_progress cli_weights __main__",
}
"""Which modules stand at which level (without ``vrestore.``; ``x.*`` is everything in the package x). A module imports
only from its own level or a lower one. The training recipe stands above the library that it uses, and nothing imports
it."""

STANDARD = set(sys.stdlib_module_names)
ALLOWED = {
    "plan": {"numpy"},  # the core plans without a model, a tensor or a video
    "errors": set(),
    "bicubic": {"numpy"},
    "metrics": {"numpy", "cv2", "einops", "jaxtyping"},
    "temporal": {"numpy", "cv2", "jaxtyping"},
    "settings": set(),
    "preset": set(),
    "cli": {"click"},
    "cli_batch": {"click"},
    "cli_make": {"click"},
    "cli_preset": {"click"},
    "cli_options": {"click"},
    "cli_progress": {"rich"},
    "cli_weights": {"click"},
}
FORBIDDEN = {"video": {"torch", "diffusers", "transformers"}, "tasks": {"click", "rich"}, "engine": {"click", "rich"}}
MAX_LINES = 400
HEAVY = ("torch", "diffusers", "transformers", "numpy", "cv2", "av", "decord", "click", "rich", "ray")


@cache
def modules():
    """Every module of the package and its file, the heads and weights from where they lie."""
    found = {}
    for package, folder in FOLDERS.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            if package == "vrestore" and parts[0] in ("tasks", "weights"):  # the links
                continue
            name = ".".join((package, *parts)).removesuffix(".__init__")
            found[name] = path
    return found


@cache
def level(module):
    """The level of the most specific entry that fits."""
    name = module.removeprefix("vrestore").removeprefix(".") or "__init__"
    fits = {}
    for number, patterns in LEVELS.items():
        for pattern in patterns.split(" "):
            if pattern == name or (pattern.endswith(".*") and name.startswith(pattern[:-1])):
                fits[pattern] = number
    assert fits, f"{module} has no level: add it to LEVELS in {Path(__file__).name} and to CONTRIBUTING.md"
    return fits[max(fits, key=len)]


@cache
def imports(module):
    """Absolute names of everything that a module imports, anywhere in its text."""
    path = modules()[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            up = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*up, *([node.module] if node.module else [])])
            names |= {f"{base}.{alias.name}" if f"{base}.{alias.name}" in modules() else base for alias in node.names}
    return frozenset(names)


def third_party(module):
    tops = {name.partition(".")[0] for name in imports(module)}
    return tops - STANDARD - {"vrestore"}


def family(module):
    """``vrestore.plan.steps`` is of the family ``plan``."""
    return module.removeprefix("vrestore").removeprefix(".").partition(".")[0]


@pytest.mark.parametrize("module", modules())
def test_imports_point_downwards(module):
    own = level(module)
    above = {name: level(name) for name in imports(module) if name.startswith("vrestore") and level(name) > own}
    assert not above, f"{module} is level {own} and imports from above: {above}"


def test_heads_do_not_import_one_another():
    heads = {name for name in modules() if name.startswith("vrestore.tasks.")}
    for head in heads:
        assert imports(head).isdisjoint(heads - {head}), f"{head} imports another head"


@pytest.mark.parametrize("module", modules())
def test_third_party_imports_stay_where_they_belong(module):
    used = third_party(module)
    assert used <= ALLOWED.get(family(module), used)
    assert used.isdisjoint(FORBIDDEN.get(family(module), set()))


def test_third_party_imports_are_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    declared = {
        requirement.split(">=")[0].split("==")[0].lower().replace("-", "_")
        for requirement in [*project["dependencies"], *extras["controls"], *extras["ray"]]
    }
    named = {"opencv_python_headless": "cv2", "pillow": "PIL", "scenedetect_headless": "scenedetect"}
    importable = {named.get(name, name) for name in declared}
    used = set().union(*(third_party(module) for module in modules()))
    assert used <= importable, f"imported, but not in pyproject.toml: {sorted(used - importable)}"


def test_every_package_is_packaged():
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    packages = {name if path.name == "__init__.py" else name.rpartition(".")[0] for name, path in modules().items()}
    assert packages == set(tool["packages"])
    assert packages <= set(modules()), "a package without __init__.py"


@pytest.mark.parametrize("module", modules())
def test_files_are_short(module):
    lines = len(modules()[module].read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_LINES, f"{module} has {lines} lines: split it along its ideas"


def python(code, folder):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False, cwd=folder
    )


def test_import_is_silent_and_light():
    code = f"import sys; import vrestore; print([name for name in {HEAVY} if name in sys.modules])"
    done = python(code, ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


def test_import_tasks_from_the_checkout_refuses():
    """A second copy of every head, with classes of its own, would otherwise come to be."""
    done = python("import tasks", ROOT)
    assert done.returncode == 1
    assert "ImportError" in done.stderr
    assert "vrestore.tasks" in done.stderr


def test_public_names():
    assert set(vrestore.__all__) == {
        "BatchConfig",
        "BatchReport",
        "CompareConfig",
        "Comparison",
        "Deblurring",
        "DeblurringConfig",
        "Depth",
        "DepthConfig",
        "Editing",
        "EditingConfig",
        "Formats",
        "Generation",
        "GenerationConfig",
        "Interpolation",
        "InterpolationConfig",
        "JobPlan",
        "MakeOptions",
        "Progress",
        "RunOptions",
        "RunResult",
        "SuperResolution",
        "SuperResolutionConfig",
        "VRestoreError",
        "__version__",
        "compare",
        "deblur",
        "edit",
        "estimate_depth",
        "from_preset",
        "generate",
        "interpolate",
        "run_batch",
        "super_resolve",
    }
    assert dir(vrestore) == sorted(vrestore.__all__)


@pytest.mark.parametrize("name", vrestore.__all__)
def test_every_public_name_is_there(name):
    value = getattr(vrestore, name)
    assert name == "__version__" or value.__name__ == name


def test_unknown_names_are_refused():
    with pytest.raises(AttributeError, match=r"no attribute 'upscale'; public names: .*super_resolve"):
        _ = vrestore.upscale
