"""Measure parts and write the page: ``./run_all.sh bench [--peers] [part ...]``."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PEERS = HERE / ".peers"


def main() -> None:
    """Parse the command line and run."""
    sys.path.insert(0, str(PEERS))  # before any import that a peer wants in a version of its own
    from tests.benchmarks import page, parts

    parser = argparse.ArgumentParser(prog="./run_all.sh bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(parts.PARTS)} (default: all)")
    parser.add_argument("--peers", action="store_true", help="first install what requirements.txt pins into .peers")
    asked = parser.parse_args()
    if unknown := set(asked.parts) - set(parts.PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(parts.PARTS)}")
    if asked.peers:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade", "--target", str(PEERS)]
        subprocess.run([*pip, "--requirement", str(HERE / "requirements.txt")], check=True)
    for part in asked.parts or parts.PARTS:
        print(parts.measure(part))
        page.write()


if __name__ == "__main__":
    main()
