"""Functions that the code of self-timed populations calls, for numpy, Cython, C++ and CUDA.

Every function takes and returns numbers without units. Times are in seconds; a time that never comes is `NEVER`, a
finite number, so that products with 0 stay 0. The C++ text serves Cython, C++ and CUDA. The rules are those of
`mtt_brian.circuit.instants`; the closed forms those of the neuron equations, with ``a = 1 / tau``, ``b = 1 / tau_syn``:

* LIF: ``v(t) = rest + (v - rest) exp(-a t)``;
* CubaLIF: ``v(t) = rest + (v - rest) exp(-a t) + drive K(t)`` with ``K(t) = a (exp(-b t) - exp(-a t)) / (a - b)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from brian2 import Function

from mtt_brian.circuit.instants import ABSOLUTE, LARGEST, RELATIVE

#: A time that never comes, in seconds.
NEVER = 1e30
#: As in `mtt_brian.engines.exact.dynamics`.
_STEPS = 2000


def _function(
    pyfunc: Callable[..., Any],
    code: str,
    *,
    uses: Sequence[str] = (),
    memory: Mapping[str, np.ndarray] | None = None,
) -> Function:
    """A Brian2 function of numbers.

    Args:
        pyfunc: its implementation for numpy, on numbers and arrays.
        code: its implementation in C++: a function of the same name, with ``inline`` in front. Its last parameters are
            pointers to the arrays of ``memory``.
        uses: C++ of other functions that this one calls.
        memory: name -> array, float64 [any length], what the function keeps between its calls.
    """
    name = pyfunc.__name__
    count = pyfunc.__code__.co_argcount
    function = Function(
        pyfunc,
        arg_units=[1] * count,
        return_unit=1,
        arg_types=["any"] * count,
        return_type="float",
        stateless=not memory,
    )
    function.implementations.add_numpy_implementation(pyfunc, discard_units=True)
    arguments = ", ".join(f"double x{k}" for k in range(count))
    passed = ", ".join([*(f"x{k}" for k in range(count)), *(f"_namespace{key}" for key in memory or {})])
    inner = f"{name}_" if memory else name
    text = "\n".join(_once(part.replace(f"{name}(", f"{inner}(")) for part in (*uses, code))
    # Cython's own variables have other names in C++: the pointers are passed on.
    pointers = ", double*" * len(memory or {})
    cython = f'cdef extern from *:\n    """\n{text}\n    """\n    double {inner}({arguments}{pointers})'
    if memory:
        cython += f"\ncdef double {name}({arguments}):\n    return {inner}({passed})"
        text += f"\ninline double {name}({arguments}) {{ return {inner}({passed}); }}"
    namespace = dict(memory or {})
    for target, found in (
        ("cython", cython.replace("inline", "static inline")),
        ("cpp", text.replace("inline", "static inline")),
        ("cuda", text.replace("inline", "inline __host__ __device__")),
    ):
        function.implementations.add_implementation(target, found, namespace=namespace)
    return function


def _once(code: str) -> str:
    """C++ of a function that several others bring along."""
    guard = code.split("(")[0].split()[-1].upper()
    return f"#ifndef MTT_BRIAN_{guard}\n#define MTT_BRIAN_{guard}\n{code}\n#endif"


# ----- choices and roundings


def _choose(condition: Any, a: Any, b: Any) -> Any:
    return np.where(np.asarray(condition) != 0, a, b)


def _floor64(x: Any) -> Any:
    return np.floor(x)


def _time_window(t: Any) -> Any:
    return np.minimum(RELATIVE * np.abs(t) + ABSOLUTE, LARGEST)


def _whole_microsecond(t: Any) -> Any:
    nearest = np.rint(np.asarray(t) * 1e6) / 1e6
    return np.where(np.abs(nearest - t) <= _time_window(t), nearest, t)


def _on_threshold(v: Any, theta: Any, slope: Any, taken: Any, t: Any) -> Any:
    multiple = np.rint(np.asarray(v) / theta) * theta
    slack = np.abs(slope) * _time_window(t) + 1e-15 * (multiple + np.abs(taken) * theta)
    return np.where((np.asarray(slope) != 0) & (multiple - v > 0) & (multiple - v <= slack), multiple, v)


# ----- crossings


def _line_crossing(distance: Any, slope: Any) -> Any:
    rises = np.asarray(slope) > 0
    return np.where(rises, np.asarray(distance) / np.where(rises, slope, 1.0), NEVER)


def _leak_crossing(v: Any, theta: Any, rest: Any, tau: Any) -> Any:
    v, theta, rest, tau = np.broadcast_arrays(*(np.asarray(x, dtype=np.float64) for x in (v, theta, rest, tau)))
    comes = (v < theta) & (rest > theta)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(comes, tau * np.log1p(np.where(comes, (theta - v) / (rest - theta), 0.0)), NEVER)


def _synaptic_response(t: Any, tau: Any, tau_syn: Any) -> Any:
    tau, tau_syn = np.asarray(tau, dtype=np.float64), np.asarray(tau_syn, dtype=np.float64)
    difference = np.abs(tau_syn - tau) / tau / tau_syn
    slow = np.exp(-np.asarray(t) / np.maximum(tau, tau_syn))
    grown = np.where(difference == 0, t, -np.expm1(-difference * t) / np.where(difference == 0, 1.0, difference))
    return slow * grown / tau


def _current_crossing(wanted: Any, v: Any, drive: Any, theta: Any, rest: Any, tau: Any, tau_syn: Any) -> Any:
    columns = np.broadcast_arrays(
        *(np.asarray(x, dtype=np.float64) for x in (wanted, v, drive, theta, rest, tau, tau_syn))
    )
    found = np.full(columns[0].shape, NEVER)
    for k in np.argwhere(columns[0]).tolist():
        found[tuple(k)] = _hump_crossing(*(float(column[tuple(k)]) for column in columns[1:]))
    return found


def _hump_crossing(v: float, drive: float, theta: float, rest: float, tau: float, tau_syn: float) -> float:
    """Seconds until the potential of one CubaLIF comes up to the threshold from below.

    ``tau v' = rest - v + drive exp(-b t)`` has at most one zero ``t*``, and there ``v(t*) = rest + drive exp(-b t*)``.
    So the trajectory is a single hump, a single dip or monotonic.
    """
    slope = rest - v + drive
    turn = math.inf
    if drive != 0 and slope / drive >= 0:
        difference = (tau_syn - tau) / tau / tau_syn
        ratio = tau_syn * slope / drive
        # 1 + difference * ratio, which loses its digits where tau_syn is much shorter than tau, written without a 1.
        remains = (v - rest) / drive + tau_syn / tau * (slope / drive)
        if difference == 0:
            turn = ratio
        elif abs(difference * ratio) < 0.5:
            turn = math.log1p(difference * ratio) / difference
        elif remains > 0:
            turn = math.log(remains) / difference

    def above(t: float) -> float:
        # Written so that a large v leaves no rounding behind when it has decayed.
        own = (v - theta) * math.exp(-t / tau) - (rest - theta) * math.expm1(-t / tau)
        return own + drive * float(_synaptic_response(t, tau, tau_syn))

    low, high, start = 0.0, math.inf, -1.0
    if slope > 0 and v < theta:
        if turn < math.inf:  # a hump
            bend = drive * math.exp(-turn / tau_syn)
            if rest + bend < theta:
                return NEVER
            high = turn
            # From the top down a parabola: close to the truth for the grazing ones, where Newton's method is slow.
            # Far away the current is too small for float64; then rest is at least theta.
            start = turn - math.sqrt(2 * (rest + bend - theta) * tau * tau_syn / bend) if bend > 0 else low
        elif rest <= theta:
            return NEVER
    elif drive < 0 and rest > theta and turn < math.inf and slope <= 0:  # a dip, then up to rest
        if v >= theta and rest + drive * math.exp(-turn / tau_syn) >= theta:
            return NEVER
        low = turn
    else:
        return NEVER
    if high == math.inf:
        step = tau + tau_syn
        high = low + step
        while above(high) < 0:
            low, step = high, 2 * step
            high = low + step
    t = start if low < start < high else low
    for _ in range(_STEPS):  # Newton's method, kept inside by bisection
        value = above(t)
        low, high = (t, high) if value < 0 else (low, t)
        steepness = (rest - theta - value + drive * math.exp(-t / tau_syn)) / tau
        new = t - value / steepness if steepness > 0 else high
        if not low < new < high:
            new = 0.5 * (low + high)
            if not low < new < high:
                return high
        if abs(new - t) <= 1e-16 * new:
            return new
        t = new
    return high


# ----- the functions


def _named(pyfunc: Callable[..., Any]) -> Callable[..., Any]:
    """The function under the name that Brian2's code calls it by."""
    pyfunc.__name__ = pyfunc.__name__.lstrip("_")
    return pyfunc


_TIME_WINDOW = f"""inline double time_window(double t) {{
    double window = {RELATIVE!r} * fabs(t) + {ABSOLUTE!r};
    return window < {LARGEST!r} ? window : {LARGEST!r};
}}"""
_ABOVE_THRESHOLD = """inline double above_threshold(double t, double v, double drive, double theta, double rest,
                                                      double tau, double tau_syn) {
    double own = (v - theta) * exp(-t / tau) - (rest - theta) * expm1(-t / tau);
    return own + drive * synaptic_response(t, tau, tau_syn);
}"""
_SYNAPTIC_RESPONSE = """inline double synaptic_response(double t, double tau, double tau_syn) {
    double difference = fabs(tau_syn - tau) / tau / tau_syn;
    double slow = exp(-t / (tau > tau_syn ? tau : tau_syn));
    double grown = difference == 0.0 ? t : -expm1(-difference * t) / difference;
    return slow * grown / tau;
}"""

#: ``choose(condition, a, b)``: a where the condition is not 0, else b.
choose = _function(
    _named(_choose), "inline double choose(double condition, double a, double b) { return condition != 0.0 ? a : b; }"
)
#: ``floor64(x)``: the largest whole number <= x as float64; Brian2's ``floor`` gives 32 bits in numpy.
floor64 = _function(_named(_floor64), "inline double floor64(double x) { return floor(x); }")
#: ``time_window(t)``: `mtt_brian.circuit.instants.window`.
time_window = _function(_named(_time_window), _TIME_WINDOW)
#: ``whole_microsecond(t)``: the whole microsecond that a computed time is up to rounding; other times as they are.
whole_microsecond = _function(
    _named(_whole_microsecond),
    """inline double whole_microsecond(double t) {
    double nearest = rint(t * 1e6) / 1e6;
    return fabs(nearest - t) <= time_window(t) ? nearest : t;
}""",
    uses=[_TIME_WINDOW],
)
#: ``on_threshold(v, theta, slope, taken, t)``: the multiple of the threshold that a potential on a line is up to
#: rounding; other potentials as they are.
on_threshold = _function(
    _named(_on_threshold),
    """inline double on_threshold(double v, double theta, double slope, double taken, double t) {
    double multiple = rint(v / theta) * theta;
    double slack = fabs(slope) * time_window(t) + 1e-15 * (multiple + fabs(taken) * theta);
    return slope != 0.0 && multiple - v > 0.0 && multiple - v <= slack ? multiple : v;
}""",
    uses=[_TIME_WINDOW],
)
#: ``line_crossing(distance, slope)``: seconds in which a line rises by a distance.
line_crossing = _function(
    _named(_line_crossing),
    f"""inline double line_crossing(double distance, double slope) {{
    return slope > 0.0 ? distance / slope : {NEVER!r};
}}""",
)
#: ``leak_crossing(v, theta, rest, tau)``: seconds until a LIF comes up to its threshold.
leak_crossing = _function(
    _named(_leak_crossing),
    f"""inline double leak_crossing(double v, double theta, double rest, double tau) {{
    return v < theta && rest > theta ? tau * log1p((theta - v) / (rest - theta)) : {NEVER!r};
}}""",
)
#: ``synaptic_response(t, tau, tau_syn)``: K(t), with the slower exponential factored out, so that nothing cancels.
synaptic_response = _function(_named(_synaptic_response), _SYNAPTIC_RESPONSE)
#: ``current_crossing(wanted, v, drive, theta, rest, tau, tau_syn)``: seconds until a CubaLIF comes up to its threshold;
#: computed where ``wanted`` is not 0.
current_crossing = _function(
    _named(_current_crossing),
    f"""inline double current_crossing(double wanted, double v, double drive, double theta, double rest, double tau,
                                       double tau_syn) {{
    if (wanted == 0.0)
        return {NEVER!r};
    double slope = rest - v + drive, turn = INFINITY;
    if (drive != 0.0 && slope / drive >= 0.0) {{
        double difference = (tau_syn - tau) / tau / tau_syn, ratio = tau_syn * slope / drive;
        double remains = (v - rest) / drive + tau_syn / tau * (slope / drive);
        if (difference == 0.0)
            turn = ratio;
        else if (fabs(difference * ratio) < 0.5)
            turn = log1p(difference * ratio) / difference;
        else if (remains > 0.0)
            turn = log(remains) / difference;
    }}
    double low = 0.0, high = INFINITY, t = -1.0;
    if (slope > 0.0 && v < theta) {{
        if (turn < INFINITY) {{
            double bend = drive * exp(-turn / tau_syn);
            if (rest + bend < theta)
                return {NEVER!r};
            high = turn;
            t = turn - sqrt(2.0 * (rest + bend - theta) * tau * tau_syn / bend);
        }} else if (rest <= theta)
            return {NEVER!r};
    }} else if (drive < 0.0 && rest > theta && turn < INFINITY && slope <= 0.0) {{
        if (v >= theta && rest + drive * exp(-turn / tau_syn) >= theta)
            return {NEVER!r};
        low = turn;
    }} else
        return {NEVER!r};
    if (high == INFINITY) {{
        double step = tau + tau_syn;
        high = low + step;
        while (above_threshold(high, v, drive, theta, rest, tau, tau_syn) < 0.0) {{
            low = high;
            step *= 2.0;
            high = low + step;
        }}
    }}
    if (!(low < t && t < high))
        t = low;
    for (int k = 0; k < {_STEPS}; k++) {{
        double value = above_threshold(t, v, drive, theta, rest, tau, tau_syn);
        if (value < 0.0)
            low = t;
        else
            high = t;
        double steepness = (rest - theta - value + drive * exp(-t / tau_syn)) / tau;
        double next = steepness > 0.0 ? t - value / steepness : high;
        if (!(low < next && next < high)) {{
            next = 0.5 * (low + high);
            if (!(low < next && next < high))
                return high;
        }}
        if (fabs(next - t) <= 1e-16 * next)
            return next;
        t = next;
    }}
    return high;
}}""",
    uses=[_SYNAPTIC_RESPONSE, _ABOVE_THRESHOLD],
)

#: All functions without memory, for a namespace.
FUNCTIONS: Mapping[str, Function] = {
    "choose": choose,
    "floor64": floor64,
    "time_window": time_window,
    "whole_microsecond": whole_microsecond,
    "on_threshold": on_threshold,
    "line_crossing": line_crossing,
    "leak_crossing": leak_crossing,
    "synaptic_response": synaptic_response,
    "current_crossing": current_crossing,
}


#: Tasks of `under_way`.
LOOK, SEND, RECEIVE, CLEAR = range(4)
#: Spikes of one neuron that can be under way in one delay at the same time.
MOST_UNDER_WAY = 64


def under_way(name: str, relays: int) -> tuple[Function, tuple[np.ndarray, ...]]:
    """``under_way(relay, task, time, n)``: spikes on their way through delays, first in, first out for each relay.

    `LOOK` returns when the next ones arrive; `SEND` adds ``n`` that arrive at ``time``, and does what `LOOK` does, or
    returns -1 if there is no room; `RECEIVE` removes all that have arrived by ``time`` and returns their number;
    `CLEAR` removes all and returns `NEVER`.

    Args:
        name: of the function's memory, unique in a network.
        relays: number of relays, over all copies.

    Returns:
        the function, and its memory: arrival times and numbers in rings, first and size of each ring; 0 when empty.
    """
    times, counts = np.zeros((2, relays * MOST_UNDER_WAY))
    ring = np.zeros(2 * relays)

    def one(relay: int, task: int, time: float, n: float) -> float:
        begin, first, size = relay * MOST_UNDER_WAY, int(ring[2 * relay]), int(ring[2 * relay + 1])
        received = 0.0
        if task == CLEAR:
            size = 0
        elif task == SEND:
            if size == MOST_UNDER_WAY:
                return -1.0
            place = begin + (first + size) % MOST_UNDER_WAY
            times[place], counts[place] = time, n
            size += 1
        while task == RECEIVE and size and times[begin + first] <= time:
            received += counts[begin + first]
            first, size = (first + 1) % MOST_UNDER_WAY, size - 1
        ring[2 * relay], ring[2 * relay + 1] = first, size
        if task == RECEIVE:
            return received
        return float(times[begin + first]) if size else NEVER

    def under_way(relay: Any, task: Any, time: Any, n: Any) -> Any:
        rows = np.broadcast_arrays(*(np.asarray(x, dtype=np.float64) for x in (relay, task, time, n)))
        return np.array([one(int(r), int(k), t, m) for r, k, t, m in zip(*rows, strict=True)])

    function = _function(
        under_way,
        f"""inline double under_way(double relay, double task, double time, double n, double* times, double* counts,
                                double* rings) {{
    const int room = {MOST_UNDER_WAY};
    double* t = times + (long)relay * room;
    double* m = counts + (long)relay * room;
    double* ring = rings + 2 * (long)relay;
    int first = (int)ring[0], size = (int)ring[1], what = (int)task;
    double received = 0.0;
    if (what == {CLEAR})
        size = 0;
    else if (what == {SEND}) {{
        if (size == room)
            return -1.0;
        t[(first + size) % room] = time;
        m[(first + size) % room] = n;
        size++;
    }}
    while (what == {RECEIVE} && size > 0 && t[first] <= time) {{
        received += m[first];
        first = (first + 1) % room;
        size--;
    }}
    ring[0] = first;
    ring[1] = size;
    if (what == {RECEIVE})
        return received;
    return size > 0 ? t[first] : {NEVER!r};
}}""",
        memory={f"{name}_times": times, f"{name}_counts": counts, f"{name}_rings": ring},
    )
    return function, (times, counts, ring)


def earliest_crossing(times: np.ndarray) -> Function:
    """``earliest_crossing(copy, time)``: notes the next crossing of a neuron of a copy, and returns it.

    With ``time`` < 0 it returns the earliest one that was noted since the last such call, and forgets them all.

    Args:
        times: float64 [batch_size], the memory: the earliest crossing of each copy so far.
    """

    def earliest_crossing(copy: Any, time: Any) -> Any:
        copy, time = np.broadcast_arrays(np.asarray(copy, dtype=np.int64), np.asarray(time, dtype=np.float64))
        found = np.where(time < 0, times[copy], time)
        times[copy[time < 0]] = NEVER
        np.minimum.at(times, copy[time >= 0], time[time >= 0])
        return found

    return _function(
        earliest_crossing,
        f"""inline double earliest_crossing(double copy, double time, double* times) {{
    double* earliest = times + (int)copy;
    if (time < 0.0) {{
        double found = *earliest;
        *earliest = {NEVER!r};
        return found;
    }}
#if defined(__CUDA_ARCH__) && (__CUDA_ARCH__ > 0)
    // Numbers >= 0 are ordered as the integers with the same bits.
    unsigned long long* bits = (unsigned long long*)earliest;
    unsigned long long mine = (unsigned long long)__double_as_longlong(time), held = *bits;
    while (mine < held) {{
        unsigned long long before = atomicCAS(bits, held, mine);
        if (before == held)
            break;
        held = before;
    }}
#else
    if (time < *earliest)
        *earliest = time;
#endif
    return time;
}}""",
        memory={"earliest_crossing_times": times},
    )
