"""What structure buys: the times that `benchmarks/structure.py` measured."""

import json
from pathlib import Path

import matplotlib.pyplot as plt

DOCS = Path(__file__).parents[1]

times = json.loads((DOCS / "data" / "structure.json").read_text())
figure, axes = plt.subplots(figsize=(6.6, 3.8))
for name, points in times.items():
    n, seconds = zip(*points)
    axes.loglog(n, seconds, marker="o", markersize=4, label=name)
axes.set(xlabel="unknowns n", ylabel="seconds for one solve")
axes.set_ylim(bottom=3e-5)
axes.legend(fontsize=9)
