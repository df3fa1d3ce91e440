"""A folder of dailies, with its subfolders, to ProRes: two clips at a time; run it again and only what is new is done.

python examples/folder.py dailies/ restored/
"""

import sys

import vrestore


def main(source: str, target: str) -> int:
    config = vrestore.BatchConfig(recursive=True, jobs=2, suffix=".mov")
    settings = {"scale": 2, "codec": "prores"}
    report = vrestore.run_batch("sr", source, target, config, settings=settings)
    print("\n".join(report.lines()))
    return report.exit_code  # 3 if some failed


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
