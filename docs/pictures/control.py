"""Position and velocity of an optimally controlled cart, by the price of control."""

import jax.numpy as jnp
import matplotlib.pyplot as plt
from pages import run

page = run("jobs/control.md")
times = page["dt"] * jnp.arange(1, page["steps"] + 1)
figure, axes = plt.subplots()
for price, colour in ((0.1, "C0"), (1.0, "C1"), (10.0, "C2")):
    states = page["trajectory"](page["Q"], price * page["R"], page["start"])
    axes.plot(times, states[:, 0], colour, label=f"price {price:g}")
    axes.plot(times, states[:, 1], colour, linestyle="--")
axes.set(xlabel="time", ylabel="position; velocity (dashed)")
axes.legend()
