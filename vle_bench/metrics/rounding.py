"""Fractions for printing, rounded half away from zero as in papers, despite binary digits."""

from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal


def percent(fraction: float, decimals: int = 2) -> str:
    """Print a fraction in percent: 0.98145 → `98.15`, rounding Python's decimal digits."""
    return rounded(Decimal(repr(float(fraction))) * 100, decimals)


def rounded(value: Decimal, decimals: int) -> str:
    """Print a figure with so many decimals, half away from zero; zero has no sign."""
    shown = value.quantize(Decimal(1).scaleb(-decimals), rounding=ROUND_HALF_UP)
    return f"{abs(shown) if not shown else shown:f}"


def signed(value: Decimal, decimals: int) -> str:
    """Print a difference: `+0.30`, `−0.30` with a true minus, `0.00`."""
    shown = rounded(value, decimals)
    return (
        f"−{shown[1:]}" if shown.startswith("-") else shown if not Decimal(shown) else f"+{shown}"
    )


def percent_range(interval: Sequence[float] | None, missing: str = "") -> str:
    """An interval of fractions in percent: `76.90 to 77.60`; `missing` if there is none."""
    return " to ".join(map(percent, interval)) if interval else missing


def plus_minus(fraction: float, interval: Sequence[float] | None) -> str:
    """A score in percent, ± half of its interval: `77.41 ± 0.35`; the score alone without one."""
    return percent(fraction) + (
        f" ± {percent((interval[1] - interval[0]) / 2)}" if interval else ""
    )
