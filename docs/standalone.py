"""Pictures for pages that are not built: `python docs/standalone.py` draws those of the
README into docs/assets, in an ink that can be read on light and on dark ground."""

import runpy
from pathlib import Path

import matplotlib

matplotlib.use("svg")

import matplotlib.pyplot as plt

HERE = Path(__file__).parent
NAMES = ("speed", "structure")
_INK = "#7d8590"
_STYLE = {
    **dict.fromkeys(["text.color", "axes.edgecolor", "axes.labelcolor"], _INK),
    **dict.fromkeys(["xtick.color", "ytick.color"], _INK),
    "axes.prop_cycle": plt.cycler(
        color=["#e0731d", "#2f8fd8", "#2aa876", "#b65fc4", "#c9a227"]
    ),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.grid": True,
    "grid.linewidth": 0.3,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "svg.fonttype": "none",
    "svg.hashsalt": "lineax",
}


def write(name: str) -> None:
    """What docs/pictures/NAME.py draws, as docs/assets/NAME.svg."""
    with plt.rc_context(_STYLE):
        runpy.run_path(str(HERE / "pictures" / f"{name}.py"))
        path = HERE / "assets" / f"{name}.svg"
        plt.savefig(path, transparent=True, metadata={"Date": None})
        plt.close("all")
    lines = path.read_text().splitlines()
    path.write_text("\n".join(map(str.rstrip, lines)) + "\n")


if __name__ == "__main__":
    for name in NAMES:
        write(name)
