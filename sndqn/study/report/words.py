"""Sentences and numbers that several figures say in the same way."""

from collections.abc import Sequence

BOOTSTRAP = "95 % bootstrap over seeds, within games"
# With fewer seeds intervals cover clearly less than they claim.
_FEW = 5


def p_words(p: float) -> str:
    """Writes a p value for a table: "0.03", "< 0.001"."""
    return "< 0.001" if p < 0.001 else f"{p:.2g}" if p < 0.995 else "1"


def p_equals(p: float) -> str:
    """Writes a p value for a sentence: "p = 0.03", "p < 0.001"."""
    words = p_words(p)
    return f"p {words}" if words.startswith("<") else f"p = {words}"


def seeds_words(counts: Sequence[int]) -> str:
    """Writes how many runs there are of each: "n = 3", or "n = 1 to 3"."""
    low, high = min(counts, default=0), max(counts, default=0)
    return f"n = {low}" if low == high else f"n = {low} to {high}"


def runs_words(counts: Sequence[int]) -> str:
    """Writes of how many runs a figure is: "n = 3 runs an arm and game"."""
    unit = "run" if max(counts, default=0) == 1 else "runs"
    return f"{seeds_words(counts)} {unit} an arm and game"


def few_seeds(counts: Sequence[int]) -> str:
    """Returns the warning that belongs to intervals of few seeds, or nothing."""
    if min(counts, default=0) >= _FEW:
        return ""
    return f" Intervals of fewer than {_FEW} seeds are too narrow; one seed has none."


def joined(names: Sequence[str], most: int = 4) -> str:
    """Writes "a", "a and b", "a, b and c", or "a, b, c and 5 more"."""
    shown = (
        list(names) if len(names) <= most else [*names[: most - 1], f"{len(names) - most + 1} more"]
    )
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)
