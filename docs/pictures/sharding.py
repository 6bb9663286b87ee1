"""Steps of CG by the number of devices, from the table of the page."""

import re
from pathlib import Path

import matplotlib.pyplot as plt

text = (Path(__file__).parents[1] / "guides" / "sharding.md").read_text()
(table,) = re.findall(r"^\| devices \|.*?(?=\n\n)", text, re.MULTILINE | re.DOTALL)
names, _, *rows = (
    [cell.strip().strip("`") for cell in line.strip("|").split("|")]
    for line in table.splitlines()
)
devices = [int(row[0]) for row in rows]
axes = plt.subplots()[1]
for k, name in enumerate(names[2:], 2):
    axes.plot(devices, [int(row[k]) for row in rows], marker="o", label=name)
axes.set(xlabel="devices", ylabel="steps", xticks=devices, ylim=(0, None))
axes.legend(fontsize="small")
