"""What the build makes itself: mathematics, pictures, the tables of solvers.

Mathematics becomes MathML, which browsers draw without a script. A picture is what
`docs/pictures/NAME.py` draws; a page shows it by `![caption](…/pictures/NAME.svg)`, and
it is put into the page itself, so that its ink has the colour of the page's text. A
table stands where a page says `<!-- table: NAME -->`.
"""

import html
import io
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")

import jax
import matplotlib.pyplot as plt
from math_core import LatexToMathML
from mkdocs.structure.files import File

# A picture runs each program once: with these flags compiling it takes a third of the
# time (see tests/conftest.py). XLA reads them once.
_FLAGS = os.environ.get("XLA_FLAGS", "")
_QUICKLY = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
if __name__ != "__main__":
    os.environ["XLA_FLAGS"] = f"{_FLAGS} {_QUICKLY}"

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import mistakes  # noqa: E402
import pages  # noqa: E402, F401  (scripts of pictures import it, when the path is gone)
import tables  # noqa: E402

TABLES = tables.TABLES | {"mistakes": mistakes.page}

# Mathematics

_MATHS = re.compile(
    r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL
)
_TO_MATHML = LatexToMathML(fancy_error=False).convert_with_local_state


def _mathml(match: re.Match) -> str:
    block = match[1] == "div"
    return _TO_MATHML(html.unescape(match[2]), displaystyle=block)


# Pictures

_INK = "#010203"  # stands for the colour of text
_STYLE = {
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.prop_cycle": plt.cycler(
        color=["#e0731d", "#2f8fd8", "#2aa876", "#b65fc4", "#c9a227", "#8a8f98"]
    ),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.figsize": (5.6, 3.4),
    "font.size": 11,
    "grid.color": "#8a8f98",
    "grid.linewidth": 0.3,
    "axes.grid": True,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "savefig.transparent": True,
    "svg.fonttype": "none",
    "svg.hashsalt": "lineax",
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "figure.constrained_layout.use": True,
}
# Pictures of times, drawn in a process that compiles as users do.
_TIMED = {"batches"}
_IMAGE = re.compile(r'<p><img alt="([^"]*)" src="[^"]*pictures/(\w+)\.svg" ?/?></p>')


def _draw(script: Path) -> str:
    if script.stem in _TIMED and __name__ != "__main__":
        command = [sys.executable, __file__, str(script)]
        own = os.environ | {"XLA_FLAGS": _FLAGS}
        return subprocess.run(
            command, env=own, check=True, stdout=subprocess.PIPE, text=True
        ).stdout
    with plt.rc_context(_STYLE):
        jax.config.update("jax_enable_x64", True)
        runpy.run_path(str(script))
        text = io.StringIO()
        plt.savefig(text, format="svg", metadata={"Date": None})
        plt.close("all")
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :].replace(_INK, "currentColor")
    # as many pictures as there are on a page: no name of a part twice
    svg = re.sub(r'\bid="', f'id="{script.stem}-', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\1{script.stem}-", svg)
    return re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', 'role="img"', svg, count=1)


_drawn: dict[str, str] = {}


def _figure(match: re.Match) -> str:
    caption, name = match.groups()
    return (
        f'<figure class="drawn" aria-label="{caption}">{_drawn[name]}'
        f"<figcaption>{caption}</figcaption></figure>"
    )


# What the build calls


def on_files(files, config):
    for script in sorted((HERE / "pictures").glob("*.py")):
        if script.stem not in _drawn:
            _drawn[script.stem] = _draw(script)
        path = f"pictures/{script.stem}.svg"
        svg = _drawn[script.stem].replace("currentColor", "#808080")
        files.append(File.generated(config, path, content=svg))
    return files


def on_page_markdown(markdown, page, config, files):
    def table(match: re.Match) -> str:
        return TABLES[match[1]]()

    return re.sub(r"<!-- table: ([\w-]+) -->", table, markdown)


def on_page_content(content, page, config, files):
    return _IMAGE.sub(_figure, _MATHS.sub(_mathml, content))


if __name__ == "__main__":
    sys.stdout.write(_draw(Path(sys.argv[1])))
