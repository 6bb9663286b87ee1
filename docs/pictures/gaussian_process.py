"""A Gaussian process: data, mean, and two standard deviations."""

import matplotlib.pyplot as plt
from pages import run

page = run("jobs/gaussian-process.md")
new, mean, deviation = page["new"], page["mean"], page["deviation"]
figure, axes = plt.subplots()
axes.plot(new, mean, label="mean")
axes.fill_between(new, mean - 2 * deviation, mean + 2 * deviation, alpha=0.25)
axes.plot(page["x"], page["y"], ".", label="data")
axes.set(xlabel="x", ylabel="y")
axes.legend()
