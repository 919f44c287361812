"""The scale of drawings of numbers, in which a few very large numbers do not flatten all others."""

from collections.abc import Sequence

# Numbers up to this one are drawn to scale in any case.
LEAST = 10
FACTOR = 3


def full_scale(numbers: Sequence[int]) -> int:
    """Return the number to draw at full height: the greatest, or else the number at which greater ones are cut off.

    A number is cut off above `FACTOR` times the number that three quarters of those above 0 do not exceed.
    """
    counted = sorted(number for number in numbers if number)
    if not counted:
        return 1
    return min(counted[-1], max(LEAST, FACTOR * counted[(len(counted) - 1) * 3 // 4]))
