"""Newton's method on Bratu's problem: the residual after each step."""

import matplotlib.pyplot as plt
from pages import run

page = run("jobs/newton-krylov.md")
figure, axes = plt.subplots()
for c in (1.0, 4.0, 6.0):
    _, residuals = page["newton"](c)
    axes.semilogy(residuals / residuals[0], "o-", ms=4, label=f"c = {c:g}")
axes.set(xlabel="Newton step", ylabel="‖F(u)‖, relative")
axes.legend()
