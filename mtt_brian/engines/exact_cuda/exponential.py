"""The table of the exponential function in `kernel.cu`."""

from __future__ import annotations

from decimal import Decimal, localcontext

import numpy as np

#: Intervals between 1 and 2.
_INTERVALS = 128


def powers_of_two() -> np.ndarray:
    """2 ** (k / 128) for k = 0 .. 127, float64 bits as int64 [256].

    For each k the relative rounding error of the power, and the power with k subtracted from the upper bits of its
    fraction, so that k added to the exponent and the fraction together gives the power of two of any k.
    """
    table = np.empty((_INTERVALS, 2))
    with localcontext() as context:
        context.prec = 60
        for k in range(_INTERVALS):
            power = Decimal(2) ** (Decimal(k) / _INTERVALS)
            rounded = float(power)
            table[k] = float((power - Decimal(rounded)) / Decimal(rounded)), rounded
    bits = table.view(np.int64)
    bits[:, 1] -= np.arange(_INTERVALS) << 45
    return bits.ravel()
