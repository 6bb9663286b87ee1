"""What a compiled program launches: kernels and conditionals in its loops' bodies.

Read from the text of XLA's program, for a CPU or a GPU. Each instruction that is not
only a view of its operands counts as one kernel, copies apart. On a GPU the host waits
for the predicate of each loop and of each conditional, once a pass.
"""

import re
from typing import Any, NamedTuple

# instructions that run nothing, or that are counted by what they call
_FREE = {
    "after-all",
    "bitcast",
    "conditional",
    "constant",
    "copy",
    "get-tuple-element",
    "opt-barrier",
    "parameter",
    "tuple",
    "while",
}
_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?[\w.\-]+ = (?:\(.*?\)|\S+) ([\w\-]+)\(")


class Loop(NamedTuple):
    kernels: int
    """In each pass, with the test whether to go on."""
    branches: int
    """In the branches of conditionals, of which a pass runs one each."""
    conditionals: int
    copies: int


def loops(program: Any) -> list[Loop]:
    """The loops of a compiled program, from the innermost on."""
    called, entry = _computations(program.as_text())
    found: list[Loop] = []

    def count(name: str) -> Loop:
        total = Loop(0, 0, 0, 0)
        for kind, line in called[name]:
            if kind == "while":
                body = count(_named(line, "body")[0])
                test = count(_named(line, "condition")[0])
                found.append(body._replace(kernels=body.kernels + test.kernels))
                continue
            if kind == "call":
                inside = count(_named(line, "to_apply")[0])
            elif kind == "conditional":
                keys = "branch_computations", "true_computation", "false_computation"
                each = [count(name) for key in keys for name in _named(line, key)]
                inside = Loop(0, sum(b.kernels + b.branches for b in each), 1, 0)
            else:
                inside = Loop(kind not in _FREE, 0, 0, kind == "copy")
            total = Loop(*map(sum, zip(total, inside, strict=True)))
        return total

    count(entry)
    return found


def _computations(text: str) -> tuple[dict[str, list[tuple[str, str]]], str]:
    called: dict[str, list[tuple[str, str]]] = {}
    name = entry = ""
    for line in text.splitlines():
        if head := _HEAD.match(line):
            name = head[2]
            called[name] = []
            entry = name if head[1] else entry
        elif name and (instruction := _INSTRUCTION.match(line)):
            called[name].append((instruction[1], line))
    return called, entry


def _named(line: str, key: str) -> list[str]:
    if several := re.search(key + r"=\{([^}]*)\}", line):
        return [name.strip().lstrip("%") for name in several[1].split(",")]
    one = re.search(key + r"=%?([\w.\-]+)", line)
    return [one[1]] if one else []
