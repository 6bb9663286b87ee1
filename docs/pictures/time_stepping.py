"""The heat equation by the trapezoidal rule, and a measurement."""

import matplotlib.pyplot as plt
from pages import run

page = run("jobs/time-stepping.md")
x, tau = page["x"], page["tau"]
figure, axes = plt.subplots()
axes.plot(x, page["start"], label="t = 0")
for k in (5, 20, 50, 100):
    axes.plot(x, page["history"][k - 1], label=f"t = {k * tau:g}")
axes.plot(x, page["measured"], ".", ms=3, color="#8a8f98", label="measured")
axes.set(xlabel="x", ylabel="temperature")
axes.legend()
