"""Linear regression on linear and on logarithmic axes."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


class NoFit(Exception):
    """Raised if no line can be fitted. The message gives the reason."""


@dataclass(frozen=True)
class Fit:
    """The line `v = intercept + slope * u`, where u is x or its natural logarithm, and v is y or its logarithm.

    `r_squared` is the coefficient of determination in u and v; None if all y are equal.
    """

    slope: float
    intercept: float
    r_squared: float | None
    log_x: bool
    log_y: bool

    def of(self, x: float) -> float:
        """The value of v at x."""
        return self.intercept + self.slope * (math.log(x) if self.log_x else x)

    def formula(self, x: str = "x", y: str = "y") -> str:
        """The line as a formula for y, with coefficients of four digits."""
        slope, intercept = rounded(self.slope), rounded(self.intercept)
        if not self.log_y:
            sign = "\N{MINUS SIGN}" if self.slope < 0 else "+"
            term = f"ln {x}" if self.log_x else x
            return f"{y} = {intercept} {sign} {rounded(abs(self.slope))}·{term}"
        factor = "e^" + (intercept if self.intercept >= 0 else f"({intercept})")
        if -700 < self.intercept < 700:
            factor = rounded(math.exp(self.intercept))
        return (
            f"{y} = {factor}·{x}^{slope if self.slope >= 0 else f'({slope})'}"
            if self.log_x
            else f"{y} = {factor}·e^({slope}·{x})"
        )


def fit(xs: Sequence[float], ys: Sequence[float], *, log_x: bool = False, log_y: bool = False) -> Fit:
    """Fit a line to finite numbers by ordinary least squares. Numbers on a logarithmic axis must be above 0.

    On logarithmic axes the residuals of the logarithms are minimised, as in N. R. Draper & H. Smith,
    Applied Regression Analysis (1998), chapter 13. Raises `NoFit`.
    """
    if len(xs) < 2:
        raise NoFit("A fit needs at least two points.")
    us, x_unit = in_units([math.log(x) for x in xs] if log_x else xs)
    vs, y_unit = in_units([math.log(y) for y in ys] if log_y else ys)
    try:
        line = statistics.linear_regression(us, vs)
    except statistics.StatisticsError:
        raise NoFit("All runs have almost the same x.") from None
    slope, intercept = line.slope / x_unit * y_unit, line.intercept * y_unit
    if not math.isfinite(slope) or not math.isfinite(intercept):
        raise NoFit("The values are too far apart to compute a fit.")
    return Fit(slope, intercept, determination(us, vs), log_x, log_y)


def in_units(values: Sequence[float]) -> tuple[list[float], float]:
    """Divide values by the greatest absolute value, so that squares and sums stay finite. Return the latter too."""
    unit = max(map(abs, values)) or 1.0
    return [value / unit for value in values], unit


def determination(us: Sequence[float], vs: Sequence[float]) -> float | None:
    """The R² of a line: the square of Pearson's correlation. None if all values of u or of v are equal."""
    try:
        return statistics.correlation(us, vs) ** 2
    except statistics.StatisticsError:
        return None


def rounded(number: float) -> str:
    return f"{number:z.4g}".replace("-", "\N{MINUS SIGN}")
