"""Event times of the pixels of a contrast camera; compiled, because one recording has 350,000 pixel samples."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit
def crossings(
    times: np.ndarray,
    samples: np.ndarray,
    threshold_on: np.ndarray,
    threshold_off: np.ndarray,
    refractory: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Threshold crossings of many pixels whose log intensity is linear between samples.

    A pixel has a reference level, which starts at its first sample. When its log intensity reaches reference +
    ``threshold_on`` (reference - ``threshold_off``), that level becomes the reference and an ON (OFF) event is sent at
    the exact interpolated time, rounded to the microsecond. A steep change crosses several levels, each at its time.
    A crossing within ``refractory`` after the pixel's last event changes the reference but gives no event (as in ESIM).

    Args:
        times: sample times in microseconds, int64 [K], increasing.
        samples: float64 [K, P], the log intensity of P pixels.
        threshold_on, threshold_off: float64 [P], > 0.
        refractory: microseconds.

    Returns:
        t (int64, microseconds), pixel (int64), p (int8: 1 ON, 0 OFF), each [E]; the events of one pixel are in the
        order in which they happen.
    """
    found_t = [0 for _ in range(0)]  # empty lists of a type that numba infers
    found_pixel = [0 for _ in range(0)]
    found_p = [np.int8(0) for _ in range(0)]
    upper, lower = samples[0] + threshold_on, samples[0] - threshold_off
    last_event = np.full(samples.shape[1], -np.inf)
    for k in range(1, len(times)):
        for pixel in range(samples.shape[1]):
            before, after = samples[k - 1, pixel], samples[k, pixel]
            while after >= upper[pixel] or after <= lower[pixel]:
                rising = after > before
                level = upper[pixel] if rising else lower[pixel]
                upper[pixel] = level + threshold_on[pixel]
                lower[pixel] = level - threshold_off[pixel]
                t = times[k - 1] + (level - before) / (after - before) * (times[k] - times[k - 1])
                if t - last_event[pixel] >= refractory:
                    last_event[pixel] = t
                    found_t.append(int(np.rint(t)))
                    found_pixel.append(pixel)
                    found_p.append(np.int8(rising))
    return np.array(found_t), np.array(found_pixel), np.array(found_p)
