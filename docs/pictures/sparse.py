"""The entries of a sparse matrix and of its normal equations."""

import lineax as lx
import matplotlib.pyplot as plt
from pages import run

space = run("guides/sparse.md", "random_array")
figure, axes = plt.subplots(1, 2, width_ratios=[1, 3])
for part, name in zip(axes, ("X", "ridge")):
    lx.spy(space[name], ax=part, s=1)
    part.grid(visible=False)
