"""The least-squares line, on all kinds of axes, and data without one."""

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pages.plots.regression import Fit, NoFit, fit
from tests.filter_pairs import reproducible

XS = [1.0, 2.0, 4.0, 8.0, 9.5]
NOISE = [0.02, -0.03, 0.01, 0.04, -0.02]


def formula(found: Fit) -> str:
    return found.formula().replace("\N{MINUS SIGN}", "-")


def test_the_line_equals_that_of_the_standard_library() -> None:
    ys = [3 - 0.5 * x + noise for x, noise in zip(XS, NOISE, strict=True)]
    line, found = statistics.linear_regression(XS, ys), fit(XS, ys)
    assert (found.slope, found.intercept) == pytest.approx((line.slope, line.intercept))
    assert found.r_squared == pytest.approx(statistics.correlation(XS, ys) ** 2)
    assert formula(found) == "y = 3.001 - 0.4994·x"


def test_a_line_on_two_logarithmic_axes_is_a_power_law() -> None:
    found = fit(XS, [2.1 * x**0.53 for x in XS], log_x=True, log_y=True)
    assert formula(found) == "y = 2.1·x^0.53"
    assert found.r_squared == pytest.approx(1)


def test_a_line_on_a_logarithmic_y_axis_is_an_exponential() -> None:
    assert formula(fit(XS, [2 * math.exp(-0.3 * x) for x in XS], log_y=True)) == "y = 2·e^(-0.3·x)"


def test_a_line_on_a_logarithmic_x_axis_is_a_logarithm() -> None:
    assert formula(fit(XS, [1 + 5 * math.log(x) for x in XS], log_x=True)) == "y = 1 + 5·ln x"


def test_a_factor_too_large_for_a_float_is_written_as_a_power_of_e() -> None:
    assert formula(fit([1, 2], [1e-300, 1e300], log_y=True)).startswith("y = e^(-")


def test_one_point_and_equal_xs_have_no_line() -> None:
    with pytest.raises(NoFit, match="at least two points"):
        fit([1], [1])
    with pytest.raises(NoFit, match="the same x"):
        fit([2, 2, 2], [1, 2, 3])


def test_equal_ys_have_a_level_line_and_no_r_squared() -> None:
    found = fit([1, 2, 3], [4, 4, 4])
    assert (formula(found), found.r_squared) == ("y = 4 + 0·x", None)


def test_coefficients_too_large_for_a_float_have_no_line() -> None:
    with pytest.raises(NoFit, match="too far apart"):
        fit([0, 1e-300], [0, 1e300])


@reproducible
@given(
    st.lists(
        st.tuples(*[st.floats(allow_nan=False, allow_infinity=False)] * 2),
        max_size=6,
    )
)
def test_any_finite_numbers_have_a_finite_line_or_a_reason_for_none(points: list[tuple[float, float]]) -> None:
    try:
        found = fit([x for x, _ in points], [y for _, y in points])
    except NoFit:
        return
    assert math.isfinite(found.slope)
    assert math.isfinite(found.intercept)
    assert found.r_squared is None or 0 <= found.r_squared <= 1 + 1e-9
    assert "nan" not in found.formula()
