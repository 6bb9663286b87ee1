"""Poisson's equation on a disc, and the sensitivity of its mean."""

import matplotlib.pyplot as plt
from pages import run

page = run("jobs/finite-elements.md")
(x, y), cells = page["points"].T, page["cells"]
figure, axes = plt.subplots(1, 2, figsize=(6.6, 3.2))
axes[0].tricontourf(x, y, cells, page["u"], 12)
sensitivity = page["gradient"] / page["area"]
axes[1].tripcolor(x, y, cells, facecolors=sensitivity)
for ax, title in zip(axes, ("u", "sensitivity of the mean")):
    ax.set(aspect="equal", title=title)
    ax.axis("off")
