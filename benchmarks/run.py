"""Ours beside the published `lineax`, in processes that alternate: `hatch run bench`.

The peer is installed from the package index into an environment of its own. Prints one
table: the median time of either, and the ratio with its spread over the rounds. A ratio
below one says that ours is faster.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

PEER = "lineax==0.1.1"
CASES = Path(__file__).with_name("cases.py")


def peer_python(folder: Path) -> Path:
    import jax

    subprocess.run(["uv", "venv", "-q", str(folder)], check=True)
    scripts = "Scripts" if os.name == "nt" else "bin"
    python = folder / scripts / "python"
    install = ["uv", "pip", "install", "-q", "--python", str(python)]
    subprocess.run([*install, PEER, f"jax=={jax.__version__}"], check=True)
    return python


def times(python: str | Path) -> dict[str, float]:
    done = subprocess.run(
        [str(python), str(CASES)], check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(done.stdout)


def table(ours: list[dict[str, float]], theirs: list[dict[str, float]]) -> str:
    lines = [
        f"| case | ours | {PEER} | ratio | least | most |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for case in ours[0]:
        a, b = [run[case] for run in ours], [run[case] for run in theirs]
        ratios = [x / y for x, y in zip(a, b)]
        figures = (1e3 * statistics.median(a), 1e3 * statistics.median(b))
        spread = (statistics.median(ratios), min(ratios), max(ratios))
        cells = [f"{x:.3g} ms" for x in figures] + [f"{x:.2f}" for x in spread]
        lines.append(f"| {case} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="of A B; default 3")
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        python = peer_python(Path(folder) / "peer")
        ours, theirs = [], []
        for i in range(rounds):
            print(f"round {i + 1} of {rounds}", file=sys.stderr)
            ours.append(times(sys.executable))
            theirs.append(times(python))
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}"
    print(f"{machine}, Python {platform.python_version()}; {rounds} rounds\n")
    print(table(ours, theirs))


if __name__ == "__main__":
    main()
