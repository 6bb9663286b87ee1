"""The tables of the docs, from the table the code dispatches on and from data."""

import tomllib
import warnings
from pathlib import Path
from typing import Any

import lineax as lx
from lx_solvers._auto import table

SOLVERS: dict[str, dict[str, Any]] = tomllib.loads(
    (Path(__file__).parent / "data" / "solvers.toml").read_text()
)

PUBLIC = {name: getattr(lx, name) for name in lx.__all__}

# What a solver may ask of an operator, and how the tables say it.
NEEDS = {
    "any": "any shape",
    "square": "square",
    "Hermitian": "Hermitian",
    "symmetric": "complex symmetric",
    "definite": "positive or negative definite",
    "triangular": "triangular",
    "tridiagonal": "tridiagonal",
    "diagonal": "diagonal",
    "banded": "few diagonals: l below, u above",
    "block diagonal": "block diagonal",
    "block grid": "blocks, triangular or two by two",
    "block tridiagonal": "block tridiagonal: n blocks of size b",
    "Kronecker product": "A ⊗ B, of n₁ and n₂ unknowns",
    "Hermitian Kronecker sum": "A ⊗ B or A ⊕ B, A and B Hermitian; plus a multiple of "
    "the identity",
    "Kronecker sum": "A ⊕ B",
    "circulant": "circulant",
    "Toeplitz": "Toeplitz",
    "low-rank update": "A + UCVᴴ, of rank k",
    "permutation": "permutation",
    "sparse": "sparse, square",
    "sparse of any shape": "sparse, any shape, full rank",
    "sparse definite": "sparse, positive or negative definite",
    "sparse symmetric": "sparse, symmetric or Hermitian; needs rslab",
}


def make(name: str) -> lx.AbstractLinearSolver:
    """The instance that a solver's row names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return eval(SOLVERS[name]["make"], PUBLIC | {"__builtins__": {}})


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _link(name: str) -> str:
    return f"[`{name}`][lineax.{name}]"


def tangent_solves(name: str) -> str:
    """How many solves the tangent of a solution costs, the operator moving."""
    if name == "AutoLinearSolver":
        return "as chosen"
    if SOLVERS[name]["make"].startswith(("Refined(", "BlockDiagonal(", "Kronecker(")):
        return "as inner"
    any_shape = SOLVERS[name]["needs"].endswith(("any", "any shape"))
    full_rank = "1; 2 if not square" if any_shape else "1"
    if make(name).assume_full_rank():
        return full_rank
    return f"3; if tagged nonsingular {full_rank}"


def _rank(rank: bool | str) -> str:
    return rank if isinstance(rank, str) else ("yes" if rank else "no")


def decision_table() -> str:
    """Every solver: requirements, cost, memory, rank, derivatives, accuracy."""
    head = ["solver", "operator", "set-up", "each vector or step", "memory"]
    head += ["finds the rank", "solves for a tangent", "accuracy"]
    rows = []
    for name, facts in SOLVERS.items():
        row = [_link(name), NEEDS[facts["needs"]], facts["setup"], facts["each"]]
        row += [facts["memory"], _rank(facts["rank"]), tangent_solves(name)]
        rows.append([*row, facts["accuracy"]])
    return _table(head, rows)


def dispatch_table(well_posed: bool | None) -> str:
    """The rows of `AutoLinearSolver(well_posed)`: it takes the first that applies."""
    rows = [[row.because, f"`{row.solver!r}`"] for row in table()[well_posed]]
    return _table(["the first row that applies to the operator", "solver"], rows)


TABLES = {
    "solvers": decision_table,
    "auto-true": lambda: dispatch_table(True),
    "auto-false": lambda: dispatch_table(False),
    "auto-none": lambda: dispatch_table(None),
}
