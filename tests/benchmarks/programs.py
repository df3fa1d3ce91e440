"""Runs of the program that benchmarks measure."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import click


def reported(program: list[str], clip: Path, output: Path, *options: str) -> dict:
    """Run Python on a program's arguments and a clip; its report, with the peak memory of the whole process in MiB."""
    command = [sys.executable, *program, str(clip), "-o", str(output), "--json", "--quiet", *options]
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(command, stdout=out)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise click.ClickException(f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
        out.seek(0)
        return json.load(out) | {"peak_mib": usage.ru_maxrss / 1024}
