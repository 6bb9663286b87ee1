"""The report of `verify`: a table of promises."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Check:
    """One promise, and how far the operator is from keeping it."""

    promise: str
    error: float  # relative to the operator's own scale
    tolerance: float
    how: str

    @property
    def ok(self) -> bool:
        return self.error <= self.tolerance  # a NaN is not


@dataclasses.dataclass(frozen=True)
class Verification:
    """The report of `verify`: `ok`, the individual `checks`, and as `str` a table of
    them."""

    operator: str
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether no broken promise was found."""
        return all(check.ok for check in self.checks)

    @property
    def broken(self) -> tuple[str, ...]:
        """The promises that are not kept."""
        return tuple(check.promise for check in self.checks if not check.ok)

    def __str__(self) -> str:
        header = ("", "promise", "error", "tolerance", "checked by")
        rows = [
            (
                "ok" if check.ok else "BROKEN",
                check.promise,
                f"{check.error:.1e}",
                f"{check.tolerance:.1e}",
                check.how,
            )
            for check in self.checks
        ]
        widths = [max(map(len, column)) for column in zip(header, *rows)]
        lines = (
            "  ".join(word.ljust(width) for word, width in zip(row, widths)).rstrip()
            for row in (header, *rows)
        )
        return "\n".join([self.operator, *lines])
