"""Convergence of ten preconditioners on five problems.

The numbers are those of `python benchmarks/preconditioners.py problems --write FILE`.
"""

import json
from pathlib import Path

import matplotlib.pyplot as plt

data = Path(__file__).parent.parent / "data" / "preconditioners.json"
problems = json.loads(data.read_text())
names = list(dict.fromkeys(name for trials in problems.values() for name in trials))
styles = {
    name: dict(color=f"C{i % 6}", linestyle=("-", "--", ":")[i // 6])
    for i, name in enumerate(names)
}

figure, axes = plt.subplots(3, 2, figsize=(8, 9), sharey=True)
*panels, last = axes.flat
lines = {}
for panel, (problem, trials) in zip(panels, problems.items()):
    for name, residuals in trials.items():
        (lines[name],) = panel.semilogy(residuals, **styles[name])
    panel.set(title=problem, xlim=(0, 200), ylim=(1e-9, 30), xlabel="step")
for row in axes:
    row[0].set_ylabel("‖b − Ax‖ / ‖b‖")
last.axis("off")
last.legend(lines.values(), lines.keys(), loc="center", fontsize="small")
