"""Eigenvalues of a Laplacian, and what preconditioners make of them."""

import matplotlib.pyplot as plt
import numpy as np
from pages import run

page = run("guides/preconditioning.md", "plot_spectrum")
plt.close("all")
spectra = page["axes"].collections

_, axes = plt.subplots(figsize=(5.6, 2.2))
for row, spectrum in enumerate(spectra):
    values = np.asarray(spectrum.get_offsets())[:, 0]
    axes.plot(values, np.full(values.size, row), "|", ms=14)
axes.set_yticks(range(len(spectra)), [s.get_label() for s in spectra])
axes.set(xlabel="eigenvalue", ylim=(len(spectra) - 0.5, -0.5), xlim=(0, None))
axes.grid(axis="y", visible=False)
