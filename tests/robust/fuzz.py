"""Damages small clips and restores them: an error of ours or a consistent output, never anything else.

    python tests/robust/fuzz.py --inputs 2000 --seed 0

Every input is one of `material.KINDS`' containers with bytes flipped, cut off, overwritten, repeated or removed, or
with the start of another container. Each is restored by the head that changes nothing, in a process of its own.
Findings are: an exception that is not a VRestoreError, a signal (a crash), a run of more than `LIMIT_S`, an exit code
other than 0 and 1, an output after an error, an output without all its frames, a changed source, anything else left
behind.
"""

import argparse
import random
import re
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).parent))
import material
from forks import Server

LIMIT_S = 20.0
"""For a run that takes a fraction of a second undamaged."""
MEMORY = 6 << 30
"""Address space of a run: an input may not take the machine down by what it claims to be."""
HEADER = 1024


def originals(folder):
    """The bytes of a small clip of every kind, by suffix."""
    clips = {}
    for suffix in material.KINDS:
        clips[suffix] = material.write(folder / f"original.{suffix}", 8, size=(32, 48)).read_bytes()
    return clips


def damaged(clips, suffix, draw):
    """A clip with one kind of damage, by name."""
    data = bytearray(clips[suffix])
    kind = draw.choice(("flip", "flip", "flip header", "cut", "overwrite", "repeat", "swap header", "remove"))
    at, length = draw.randrange(len(data)), draw.randrange(1, 600)
    if kind.startswith("flip"):
        reach = min(HEADER, len(data)) if kind == "flip header" else len(data)
        for _ in range(draw.choice((1, 2, 5, 20, 100))):
            data[draw.randrange(reach)] ^= 1 << draw.randrange(8)
    elif kind == "cut":
        del data[at:]
    elif kind == "overwrite":
        data[at : at + length] = draw.choice((bytes(length), b"\xff" * length, draw.randbytes(length)))
    elif kind == "repeat":
        data[at:at] = data[at : at + length] * draw.randrange(1, 5)
    elif kind == "remove":
        del data[at : at + length]
    else:
        other = clips[draw.choice([name for name in clips if name != suffix])]
        size = draw.choice((4, 12, 64, 512))
        data[:size] = other[:size]
    return kind, bytes(data)


def checked(server, folder, source, content):
    """The outcome of one run, and what is wrong with it."""
    output = folder / f"out{source.suffix if source.suffix in ('.mkv', '.mp4', '.mov', '.webm') else '.mkv'}"
    done = server.run(source, output, kind="api", limit_s=LIMIT_S, RLIMIT_AS=MEMORY)
    wrong = []
    if done.timed_out:
        wrong.append(f"took more than {LIMIT_S:.0f} s")
    elif done.code not in (0, 1):
        wrong.append(f"ended with {done.code}")
    if source.read_bytes() != content:
        wrong.append("changed its source")
    left = {path.name for path in folder.iterdir()} - {source.name}
    if left != ({output.name} if done.code == 0 else set()):
        wrong.append(f"left {sorted(left)} with exit code {done.code}")
    return done, wrong


def run(inputs, seed, keep=None, tell=click.echo):
    """Damage and restore ``inputs`` clips: the findings, and how often what came of it."""
    draw, findings, outcomes = random.Random(seed), [], Counter()
    folder = Path(tempfile.mkdtemp())
    try:
        clips = originals(folder)
        with Server() as server:
            for number in range(inputs):
                suffix = list(clips)[number % len(clips)]
                kind, content = damaged(clips, suffix, draw)
                shutil.rmtree(folder)
                folder.mkdir()
                source = folder / f"in.{suffix}"
                source.write_bytes(content)
                done, wrong = checked(server, folder, source, content)
                named = re.match(r"\w+Error", done.err.splitlines()[-1] if done.err else "")
                outcomes["restored" if done.code == 0 else named[0] if named and done.code == 1 else "finding"] += 1
                for what in wrong:
                    findings.append(f"input {number} ({suffix}, {kind}) {what}: {done.err.strip()[-1500:]}")
                    tell(findings[-1])
                if wrong and keep is not None:
                    (keep / f"{number}.{suffix}").write_bytes(content)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return findings, outcomes


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="a folder for the inputs behind findings")
    given = parser.parse_args()
    found, counts = run(given.inputs, given.seed, given.keep)
    click.echo(f"{given.inputs} damaged inputs, seed {given.seed}: {len(found)} findings; {dict(counts.most_common())}")
    sys.exit(bool(found))
