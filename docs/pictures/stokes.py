"""MINRES on the Stokes problem: residuals on grids of two sizes."""

import lineax as lx
import matplotlib.pyplot as plt
from pages import run

page = run("jobs/kkt-stokes.md")
figure, axes = plt.subplots()
flows = {f"{k} x {k}": page["solve_stokes"](k)[2] for k in (8, 32)}
lx.plot_convergence(ax=axes, **flows)
