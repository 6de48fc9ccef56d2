"""Fractions as they are printed: half away from zero, as papers round, whatever the binary digits behind a figure."""

from decimal import ROUND_HALF_UP, Decimal


def percent(fraction: float, decimals: int = 2) -> str:
    """A fraction in percent: 0.98145 → `98.15`. The decimal digits that Python prints for the fraction are what is rounded."""
    return rounded(Decimal(repr(float(fraction))) * 100, decimals)


def rounded(value: Decimal, decimals: int) -> str:
    """A figure with so many decimals, half away from zero; zero has no sign."""
    shown = value.quantize(Decimal(1).scaleb(-decimals), rounding=ROUND_HALF_UP)
    return f"{abs(shown) if not shown else shown:f}"


def signed(value: Decimal, decimals: int) -> str:
    """A difference: `+0.30`, `−0.30` with a true minus, `0.00`."""
    shown = rounded(value, decimals)
    return (
        f"−{shown[1:]}" if shown.startswith("-") else shown if not Decimal(shown) else f"+{shown}"
    )
