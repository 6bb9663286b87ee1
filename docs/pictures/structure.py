"""What structure buys: the times that `benchmarks/structure.py` measured."""

import json
from pathlib import Path

import matplotlib.pyplot as plt

DOCS = Path(__file__).parents[1]
INK = "#7d8590"  # on light and on dark ground


def draw():
    times = json.loads((DOCS / "data" / "structure.json").read_text())
    figure, axes = plt.subplots(figsize=(6.6, 3.8))
    for name, points in times.items():
        n, seconds = zip(*points)
        axes.loglog(n, seconds, marker="o", markersize=4, label=name)
    axes.set(xlabel="unknowns n", ylabel="seconds for one solve")
    axes.set_ylim(bottom=1e-4)
    axes.legend(fontsize=9)
    return figure


def write(path):
    """For a page that is not built: the README."""
    colours = ["#e0731d", "#2f8fd8", "#2aa876", "#b65fc4", "#c9a227"]
    style = {
        **dict.fromkeys(["text.color", "axes.edgecolor", "axes.labelcolor"], INK),
        **dict.fromkeys(["xtick.color", "ytick.color"], INK),
        "axes.prop_cycle": plt.cycler(color=colours),
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.grid": True,
        "grid.linewidth": 0.3,
        "legend.frameon": False,
        "figure.constrained_layout.use": True,
        "svg.fonttype": "none",
        "svg.hashsalt": "lineax",
    }
    with plt.rc_context(style):
        draw().savefig(path, transparent=True, metadata={"Date": None})
    text = Path(path).read_text()
    Path(path).write_text("\n".join(map(str.rstrip, text.splitlines())) + "\n")


draw()
