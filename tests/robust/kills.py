"""Kills a run at random moments, resumes it, and compares the output with that of an undisturbed run.

    python tests/robust/kills.py --kills 25 --seed 0

Kills (SIGKILL) are spread evenly over the formats; a moment is drawn from the time that the undisturbed run took, and
a run that was faster than its kill does not count: another moment is drawn. Half of the resumed runs are killed again.
"""

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).parent))
import material
from forks import Server

FORMATS = ("mkv", "mp4", "webm")
"""FFV1 with Opus, H.264 with AAC, VP9 with Opus."""
SETTINGS = ("--window", "8", "--overlap", "2", "--steps", "2", "--device", "cpu", "--dtype", "float32", "--quiet")


def killed_runs(server, folder, kills, seed, frames, suffix, tell):
    """Kill ``kills`` runs of one format; messages of what went wrong."""
    draw = random.Random(f"{seed} {suffix}")
    source = material.write(folder / f"in.{suffix}", frames)
    output, expected = folder / f"out.{suffix}", folder / f"undisturbed.{suffix}"
    began = time.monotonic()
    done = server.run("identity", source, "-o", expected, *SETTINGS)
    took_s = time.monotonic() - began
    wrong = [] if done.code == 0 else [f"{suffix}: undisturbed run: {done.err}"]
    reference, count = material.decoded(expected), 0
    while count < kills and not wrong:
        output.unlink(missing_ok=True)
        resume, kept = [], []
        while True:
            run = server.start("identity", source, "-o", output, *SETTINGS, *resume)
            moment_s = draw.uniform(0, took_s)
            wanted = count < kills and (not resume or draw.random() < 0.5)
            if wanted and not run.ended_within(moment_s):
                run.signal(signal.SIGKILL)
            if run.wait().code == -signal.SIGKILL:
                count += 1
                resume = ["--resume"]
                kept.append(f"{moment_s:.2f}")
                if output.exists() and material.decoded(output) != reference:
                    wrong.append(f"{suffix}: an incomplete output exists after a kill at {moment_s:.2f} s")
                continue
            break
        done = run.wait()
        names = sorted(path.name for path in folder.iterdir() if suffix in path.name)
        if done.code:
            wrong.append(f"{suffix}: exit code {done.code}: {done.err}")
        elif material.decoded(output) != reference:
            wrong.append(f"{suffix}: other frames, times or sound")
        if names != sorted([source.name, output.name, expected.name]):
            wrong.append(f"{suffix}: left behind: {names}")
        if kept:
            tell(f"{suffix}: {took_s:.2f} s undisturbed, killed after {', '.join(kept)} s, resumed: "
                 f"{wrong[-1] if wrong else 'identical frames, times and sound'}")  # fmt: skip
    return wrong


def run(kills, seed, frames, tell=click.echo):
    """``kills`` kills over the formats; messages of what went wrong, none if all is well."""
    shares = [kills // len(FORMATS) + (i < kills % len(FORMATS)) for i in range(len(FORMATS))]
    folder = Path(tempfile.mkdtemp())
    try:
        with Server() as server:
            return [
                message
                for suffix, share in zip(FORMATS, shares, strict=True)
                for message in killed_runs(server, folder, share, seed, frames, suffix, tell)
            ]
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--frames", type=int, default=400)
    given = parser.parse_args()
    found = run(given.kills, given.seed, given.frames)
    click.echo("\n".join(found) or f"{given.kills} kills, each resumed to the same frames, times and sound")
    sys.exit(bool(found))
