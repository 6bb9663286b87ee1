"""The code of a page, run for the picture that belongs to it."""

import contextlib
import io
import re
from pathlib import Path
from typing import Any

_BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def run(page: str, word: str | None = None) -> dict[str, Any]:
    """What the names of a page stand for, once its blocks have run; with a word, only
    the first block and those that contain the word."""
    text = (Path(__file__).parent / page).read_text()
    space: dict[str, Any] = {"__name__": page}
    with contextlib.redirect_stdout(io.StringIO()):
        for i, code in enumerate(_BLOCK.findall(text)):
            if i and word and word not in code:
                continue
            exec(compile(code, page, "exec"), space)
    return space
