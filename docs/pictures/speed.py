"""Times of this library over those of the published one, from docs/evidence/speed.md:
a dot for each case, a bar for the geometric mean of a group."""

import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

DOCS = Path(__file__).parents[1]
PEER = "ours / lineax 0.1.1"
GROUPS = {
    "first result, from import": "first ",
    "compile, value": "compile .* value",
    "compile, gradient": "compile .* gradient",
    "compile, Hessian": "compile .* hessian",
    "run n = 4 and 50, value": r"run .* value n=(4|50)\b",
    "run n = 4 and 50, gradient": r"run .* gradient n=(4|50)\b",
    "run n = 500 and 2000, value": r"run .* value n=(500|2000)\b",
    "run n = 500 and 2000, gradient": r"run .* gradient n=(500|2000)\b",
    "batches, n = 2 to 8": "batch .* n=[2-8]$",
    "batches, n = 10 and more": r"batch .* n=\d\d+$",
    "500 right-hand sides": "many",
    "rank-deficient": "deficient",
    "CG, 10⁶ unknowns": "poisson",
}


def ratios():
    """The ratio of each case that both libraries ran."""
    found, column = {}, None
    for line in (DOCS / "evidence" / "speed.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| case |"):
            column = cells.index(PEER) if PEER in cells else None
        elif not line.startswith("|"):
            column = None
        elif column and (figure := re.match(r"[\d.]+", cells[column])):
            found[cells[0]] = float(figure[0])
    return found


def grouped():
    """The ratios of each group that has any."""
    cases = ratios().items()
    found = {
        name: np.array([ratio for case, ratio in cases if re.match(pattern, case)])
        for name, pattern in GROUPS.items()
    }
    return {name: group for name, group in found.items() if group.size}


def mean(ratios):
    return np.exp(np.mean(np.log(ratios)))


_, axes = plt.subplots(figsize=(6.6, 4.6))
for name, group in grouped().items():
    shown = mean(group)
    colour = "#2aa876" if shown <= 1 else "#e0731d"
    axes.barh(name, shown - 1, left=1, color=colour, alpha=0.55)
    axes.plot(group, [name] * len(group), "o", ms=3, color=colour)
    axes.annotate(
        f"{shown:.2f}", (1, name), xycoords=("axes fraction", "data"), va="center"
    )
axes.axvline(1, color="#7d8590", linewidth=1)
axes.set_xscale("log")
axes.set_xticks([0.03, 0.1, 0.3, 0.5, 1, 2], ["0.03", "0.1", "0.3", "0.5", "1", "2"])
axes.minorticks_off()
axes.invert_yaxis()
axes.grid(axis="y", visible=False)
axes.set_xlabel("time here / time of lineax 0.1.1")
