"""Ours compared with its peers, in processes that alternate: `hatch run bench`.

Each peer is installed from the package index into an environment of its own. One round
runs, group by group of cases, every participant once, in turn, forwards in one round
and backwards in the next. A ratio is taken within a round, so that what slows the
machine for a while slows both; the table shows the median over the rounds, and the
spread. A ratio below one says that ours is faster.

    hatch run bench                        all cases, three rounds: 70 minutes
    hatch run bench --only "^compile CG"   the cases that match
    hatch run bench --write                also `docs/evidence/speed.md`, GOALS.md
"""

import argparse
import json
import os
import platform
import re
import runpy
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from goals import GOALS, JAX, LOOP, MEANS, PEER, SCIPY, Goal

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "evidence" / "speed.md"
MISSES = HERE / "GOALS.md"

OURS = "ours"
COLUMNS = {"jax": JAX, "textbook": LOOP, "scipy": SCIPY, "solvax": "solvax"}

NAMED = 6  # of the cases that miss a goal

Figures = dict[str, dict[str, float]]  # column → case → figure


class Participant(NamedTuple):
    script: str
    installs: tuple[str, ...] = ()  # into an environment of its own; ours, if none
    column: str | None = None  # in place of what the script says


PARTICIPANTS = (
    Participant("lineax_cases.py", column=OURS),
    Participant("lineax_cases.py", ("lineax==0.1.1",), PEER),
    Participant("raw_cases.py"),
    Participant("scipy_cases.py"),
    Participant("solvax_cases.py", ("solvax",)),
)


ASYNCHRONOUS = "^asynchronous"

# what is run together, before the next participant has its turn
TURNS = (
    *(
        f"^(compile|trace|kernels) {names} "
        for names in ("(LU|QR|SVD|Cholesky)", "(CG|BiCGStab)", "GMRES", ".*")
    ),
    *(f"^run .* n={n}$" for n in (4, 50, 500, 2000)),
    ASYNCHRONOUS,
    "^(many|deficient)",
    "^batch .* 100 x",
    "^batch .* 1000 x",
    "^(batch|eager|first)",
    "",  # all others
)


def environment(folder: Path, installs: tuple[str, ...]) -> str:
    """The Python of an environment, with our version of JAX."""
    if not installs:
        return sys.executable
    import jax

    subprocess.run(["uv", "venv", "-q", "-p", sys.executable, str(folder)], check=True)
    scripts = "Scripts" if os.name == "nt" else "bin"
    python = str(folder / scripts / "python")
    install = ["uv", "pip", "install", "-q", "--python", python]
    subprocess.run([*install, *installs, f"jax=={jax.__version__}"], check=True)
    return python


def one_round(pythons: list[str], only: str, *, backwards: bool) -> Figures:
    figures: Figures = {}
    participants = list(zip(PARTICIPANTS, pythons))[:: -1 if backwards else 1]
    for i, turn in enumerate(TURNS):
        before = "".join(f"(?!.*?{other})" for other in TURNS[:i])
        cases = f"^(?=.*?({only})){before}(?=.*?{turn})"
        arguments = ["--asynchronous"] if turn == ASYNCHRONOUS else []
        for participant, python in participants:
            if arguments and participant.script != "lineax_cases.py":
                continue
            command = [python, str(HERE / participant.script), cases, *arguments]
            # nothing of ours shines through into the peers' environments
            hidden = "JAX_COMPILATION", "PYTHONDONTWRITEBYTECODE"
            env = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
            if participant.installs:
                env.pop("PYTHONPATH", None)
            done = subprocess.run(
                command, check=True, stdout=subprocess.PIPE, text=True, env=env
            )
            for column, found in json.loads(done.stdout).items():
                column = participant.column or COLUMNS[column]
                figures.setdefault(column, {}).update(found)
    return figures


def ratios(rounds: list[Figures], case: str, column: str) -> list[float]:
    """The ratios of ours to a column, round by round."""
    return [
        figures[OURS][case] / figures[column][case]
        for figures in rounds
        if case in figures[OURS] and case in figures.get(column, {})
    ]


def shown(case: str, figure: float) -> str:
    if case.startswith("memory"):
        return f"{figure:.0f} MiB"
    if case.startswith("kernels"):
        return f"{figure:.0f}"
    units = {"s": 1, "ms": 1e-3, "µs": 1e-6}
    unit = next((name for name, size in units.items() if figure >= size), "µs")
    return f"{figure / units[unit]:.3g} {unit}"


# what else the page shows: scripts that print tables themselves
SCRIPTS = {
    "Direct solvers and what their checks cost": ("direct.py", "rank", "checks"),
    "Structured solvers": ("structured.py",),
    "Products of sparse matrices, in ms": ("sparse.py",),
    "Overheads of a run": ("overheads.py",),
}


def printed(script: str, *args: str) -> str:
    command = [sys.executable, str(HERE / script), *args]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip()


def table(rounds: list[Figures], cases: list[str]) -> str:
    peers = [PEER, JAX, LOOP, SCIPY, "solvax"]
    peers = [c for c in peers if any(set(r.get(c, {})) & set(cases) for r in rounds)]
    lines = [
        "| case | ours | " + " | ".join(f"ours / {peer}" for peer in peers) + " |",
        "|---|---:|" + "---:|" * len(peers),
    ]
    for case in cases:
        cells = [shown(case, statistics.median(r[OURS][case] for r in rounds))]
        for peer in peers:
            found = ratios(rounds, case, peer)
            if not found:
                cells.append("")
                continue
            low, high = min(found), max(found)
            spread = f" ({low:.2f}–{high:.2f})" if low < high else ""
            cells.append(f"{statistics.median(found):.2f}{spread}")
        lines.append(f"| {case} | {' | '.join(cells)} |")
    return "\n".join(lines)


def medians(
    rounds: list[Figures], cases: list[str], pattern: str, column: str = PEER
) -> dict[str, float]:
    """The ratios of ours to a column, of the cases that match."""
    return {
        case: statistics.median(each)
        for case in cases
        if re.search(pattern, case) and (each := ratios(rounds, case, column))
    }


def goals(rounds: list[Figures], cases: list[str]) -> str:
    """Each goal, how many cases meet it, and the worst that do not; then, why not."""
    limits: dict[str, None] = {}
    lines = [
        "| goal | relative to | at most | met | missed by |",
        "|---|---|---:|---:|---|",
    ]
    for goal in GOALS:
        found = medians(rounds, cases, goal.cases, goal.column)
        if not found:
            continue
        missed = {case: x for case, x in found.items() if x > goal.bound}
        if missed and goal.limit:
            limits[goal.limit] = None
        worst = sorted(missed, key=missed.__getitem__, reverse=True)
        names = ", ".join(f"{case} {missed[case]:.2f}" for case in worst[:NAMED])
        names += f" and {len(worst) - NAMED} more" if len(worst) > NAMED else ""
        lines.append(_row(goal, f"{len(found) - len(missed)} of {len(found)}", names))
    for goal in MEANS:
        each = medians(rounds, cases, goal.cases, goal.column).values()
        if each:
            mean = statistics.geometric_mean(each)
            met = "yes" if mean <= goal.bound else "no"
            lines.append(_row(goal, met, f"geometric mean {mean:.2f}"))
    return "\n".join([*lines, *(f"\n{limit}" for limit in limits)])


def _row(goal: Goal, met: str, note: str) -> str:
    return f"| {goal.name} | {goal.column} | {goal.bound} | {met} | {note} |"


def machine(rounds: int) -> str:
    import jax

    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        named = re.search("^model name\\s*: (.*)$", info.read_text(), re.MULTILINE)
        name = named[1] if named else name
    device = jax.devices()[0]
    return (
        f"{name}, {os.cpu_count()} cores, {platform.system()}; device {device}; Python "
        f"{platform.python_version()}, JAX {jax.__version__}; float64; "
        f"rounds: {rounds}."
    )


GROUPS = {
    "Compile": "^(first|compile)",
    "Run": "^run",
    "Dispatched by default": "^asynchronous",
    "Batches and many right-hand sides": "^(batch|many|deficient|eager)",
    "Large matrix-free problem": "^(poisson|memory)",
}

GLANCE = """## At a glance

![Time of one solve of −Δu + u = 1 on a square grid, against the number of unknowns, for
five kinds of operator](../pictures/structure.svg)

![Time here over the time of lineax 0.1.1: below 1, this library is faster. Bars are
geometric means, dots single cases](../pictures/speed.svg)
"""
SENTENCES = (
    ("One solve or gradient, compiled,", "^run .* (value|gradient) n="),
    ("Compiling one", "^compile .* (value|gradient)"),
    (
        "A batch of 100 or 1000 systems of 10 to 100 unknowns",
        "^batch .* n=(10|20|50|100)$",
    ),
    ("A batch of 100 000 systems of 2 to 8 unknowns", "^batch LU .* n=[23468]$"),
    ("The first result, from `import` on,", "^first "),
)


def glance(rounds: list[Figures], cases: list[str]) -> str:
    """What the charts say, in a sentence for each kind of case."""
    said = []
    for what, pattern in SENTENCES:
        found = medians(rounds, cases, pattern).values()
        if found:
            mean = statistics.geometric_mean(found)
            fast = sum(x <= 1.05 for x in found)
            said.append(
                f"{what} takes {mean:.2f} of the time of {PEER} in the geometric mean, "
                f"and at most 1.05 in {fast} of {len(found)} cases."
            )
    said.append(
        "In the charts below, a green bar, to the left of one, is a case in which this "
        "library takes less time. Goals, profiles and what is missed: "
        "`benchmarks/GOALS.md` in the repository."
    )
    return "\n".join(said)


def common(rounds: list[Figures]) -> list[str]:
    """The cases of ours that every round has."""
    return [c for c in rounds[0][OURS] if all(c in r[OURS] for r in rounds)]


def page(rounds: list[Figures], pictures: Path | None) -> str:
    cases = common(rounds)
    parts = [machine(len(rounds)), *([GLANCE] if pictures else [])]
    parts += [glance(rounds, cases)]
    for title, pattern in GROUPS.items():
        chosen = [case for case in cases if re.search(pattern, case)]
        if not chosen:
            continue
        parts += [f"## {title}"]
        if pictures:
            name = f"speed-{title.split()[0].lower()}.svg"
            found = medians(rounds, chosen, "")
            if found:
                picture(found, pictures / name)
                parts += [f"![Time of ours / time of {PEER}: {title.lower()}]({name})"]
        parts += [table(rounds, chosen)]
    return "\n\n".join(parts) + "\n"


def misses(rounds: list[Figures]) -> str:
    """The page of the goals, and what the time to compile is made of."""
    cases = common(rounds)
    parts = [GOALS_HEADER, machine(len(rounds)), goals(rounds, cases)]
    profile = [case for case in cases if re.search("^(trace|kernels)", case)]
    if profile:
        parts += ["## Profile of a compile", PROFILE, table(rounds, profile)]
    return "\n\n".join(parts) + "\n"


def picture(ratios: dict[str, float], path: Path) -> None:
    """Bars of the ratios to the published library, on a logarithmic axis."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams |= {"svg.hashsalt": "speed", "svg.fonttype": "none"}
    import matplotlib.pyplot as plt

    grey = "#808080"  # readable on light and dark pages
    figure, axes = plt.subplots(figsize=(8, 0.6 + 0.22 * len(ratios)))
    colours = ["#3f8f5f" if x <= 1 else "#c0504d" for x in ratios.values()]
    axes.barh(list(ratios), [x - 1 for x in ratios.values()], left=1, color=colours)
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    ticks = [x for x in (0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3) if low < x < high]
    axes.set_xticks(ticks, [f"{x:g}" for x in ticks])
    axes.minorticks_off()
    axes.margins(y=0.5 / len(ratios))
    axes.axvline(1, color=grey, linewidth=1)
    axes.invert_yaxis()
    axes.set_xlabel(f"time of ours / {PEER}", color=grey)
    axes.tick_params(colors=grey, which="both", labelsize=8)
    for spine in axes.spines.values():
        spine.set_visible(False)
    figure.tight_layout()
    figure.savefig(path, transparent=True, metadata={"Date": None})
    plt.close(figure)


HEADER = """# Speed

Made by `hatch run bench --write`. Each participant runs in a separate process, in turn;
the published library and others also have a separate environment. A ratio compares
times of the same round; below one, this library is faster. *JAX*: the call of
`jax.numpy` or `jax.scipy` that does the same job. *Textbook loop*: the bare method
without any check (for the Poisson problem, the time to stream the vectors of a step).
The programs run in the caller's thread; for the small programs of *Run*, a second table
shows JAX's default dispatch.

"""


GOALS_HEADER = """# Goals of speed

Made by `hatch run bench --write`, with the page of all figures,
`docs/evidence/speed.md`. A ratio compares times of the same round. Of the cases that
miss a goal, the worst are named."""
PROFILE = "`trace`: what is spent before XLA. `kernels`: the number of XLA's fusions."


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="a pattern of cases")
    parser.add_argument("--write", action="store_true", help="the page in the docs")
    parser.add_argument("--keep", type=Path, help="a file for the raw figures")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        installs = list(dict.fromkeys(p.installs for p in PARTICIPANTS))
        paths = (Path(folder) / str(i) for i in range(len(installs)))
        made = dict(zip(installs, map(environment, paths, installs)))
        pythons = [made[p.installs] for p in PARTICIPANTS]
        rounds: list[Figures] = []
        for i in range(args.rounds):
            print(f"round {i + 1} of {args.rounds}", file=sys.stderr)
            rounds.append(one_round(pythons, args.only, backwards=i % 2 == 1))
            if args.keep:
                args.keep.write_text(json.dumps(rounds))
    if args.write:
        PAGE.parent.mkdir(exist_ok=True)
        parts = [HEADER + page(rounds, PAGE.parent)]
        for title, command in SCRIPTS.items():
            parts += [f"## {title}", printed(*command)]
        PAGE.write_text("\n\n".join(parts) + "\n")
        MISSES.write_text(misses(rounds))
        runpy.run_path(str(PAGE.parents[1] / "standalone.py"))["write"]("speed")
    print(page(rounds, None))


if __name__ == "__main__":
    main()
