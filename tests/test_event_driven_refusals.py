"""What the device event_driven cannot run exactly: refused by object, line, reason and remedy."""

import gc
import math
import pickle
import re
import subprocess
import sys
import weakref

import brian2
import numpy as np
import pytest
from brian2 import Hz, ms, mV, second

import mtt_brian.event_driven
from mtt_brian.errors import InputError

EQUATION = "dv/dt = -v / (10*ms) : 1"


@pytest.fixture(autouse=True)
def _device(event_driven):
    """See conftest."""


def group(model=EQUATION, name="cells", **options):
    options = {"threshold": "v > 1", "reset": "v = 0"} | options
    return brian2.NeuronGroup(2, model, name=name, **options)


def refusal(*objects, duration=1 * ms):
    """What a run of these objects is refused with."""
    with pytest.raises(InputError) as caught:
        brian2.Network(*objects).run(duration)
    return str(caught.value)


def synapses(target, on_pre="v_post += 1", model="", connect=True, source=None, **options):
    source = source or brian2.SpikeGeneratorGroup(1, [0], [0.5] * ms)
    made = brian2.Synapses(source, target, model, on_pre=on_pre, name="wires", **options)
    if connect:
        made.connect()
    return source, made


GROUPS = {
    "function of a state": (
        {"model": "dv/dt = (log(v) - v) / (10*ms) : 1"},
        "cells: dv/dt = (log(v) - v) / (10*ms): dv/dt contains log(v); write it with +, -, *, /, whole powers, exp, "
        "expm1, exprel, tanh, sinh and cosh of states, or use the standard device, set_device('runtime')",
    ),
    "function of another state": (
        {"model": "dv/dt = (v*u + exp(v/sin(u))) / (10*ms) : 1\ndu/dt = -u / (5*ms) : 1"},
        "cells: dv/dt = (v*u + exp(v/sin(u))) / (10*ms): dv/dt contains sin(u)",
    ),
    "division by a root": ({"model": "dv/dt = -1/(1 + sqrt(v)) / (10*ms) : 1"}, "dv/dt contains sqrt(v)"),
    "a root of a state": ({"model": "dv/dt = v**0.5 / (10*ms) : 1"}, "dv/dt contains v**0.5"),
    "a state to the power of another": (
        {"model": "dv/dt = u**v / (10*ms) : 1\ndu/dt = -u / (5*ms) : 1"},
        "dv/dt contains u**v",
    ),
    "a power of a negative number": (
        {"model": "dv/dt = k**v / (10*ms) : 1\nk = -2 - i : 1"},
        "dv/dt = k**v / (10*ms): log(-i - 2) is nan in neuron 0",
    ),
    "noise within a function": ({"model": "dv/dt = exp(v) / (10*ms) + xi*(10*ms)**-0.5 : 1"}, "it is noisy (xi)"),
    "time within a function": ({"model": "dv/dt = exp(v - t/ms) / (10*ms) : 1"}, "it depends on time (t)"),
    "a condition within a function": (
        {"model": "dv/dt = exp(int(v > 1)) / (10*ms) : 1"},
        "dv/dt depends on a condition of v",
    ),
    "a power that float64 cannot expand": ({"model": "dv/dt = -(1 + v)**-700 / (10*ms) : 1"}, "a degree above 12"),
    "a function of two states": (
        {"model": "dv/dt = abs(v - u) / (10*ms) : 1\ndu/dt = -u / (5*ms) : 1"},
        "dv/dt contains abs(u - v)",
    ),
    "a high power": ({"model": "dv/dt = -v**13 / (10*ms) : 1"}, "dv/dt has a degree above 12; replace it by a lower"),
    "noise": ({"model": "dv/dt = -v / (10*ms) + xi*(10*ms)**-0.5 : 1"}, "it is noisy (xi); leave the noise out"),
    "time": ({"model": "dv/dt = (sin(2*pi*t*10*Hz) - v) / (10*ms) : 1"}, "it depends on time (t)"),
    "chance": (
        {"model": "dv/dt = (x - v) / (10*ms) : 1\nx = rand() : 1 (constant over dt)"},
        "x = rand(): it is computed once per",
    ),
    "growth": ({"model": "dv/dt = v / (10*ms) : 1"}, "v grows without bound (rate 100 per second in neuron 0)"),
    "nine states": (
        {"model": "\n".join(f"d{x}/dt = -{x} / (10*ms) : 1" for x in "vabcdpqrs")},
        "it has 9 state variables (v, a, b, c, d, p, q, r, s); at most 8",
    ),
    "two conditions": ({"threshold": "v > 1 and v < 2"}, "threshold 'v > 1 and v < 2': it is not one comparison"),
    "a chain of conditions": (
        {"threshold": "1 < v < 2"},
        "threshold '1 < v < 2': it cannot be read (Can only handle single comparisons like a<b not a<b<c); compare two "
        "values only",
    ),
    "a choice of conditions": ({"threshold": "v > 1 or i > 1"}, "conditions of parameters behind 'and'"),
    "a nonlinear condition": ({"threshold": "v**2 > 1"}, "threshold 'v**2 > 1': the condition is not linear in v"),
    "chance in the condition": (
        {"threshold": "rand() < 10*Hz*dt"},
        "it fires by chance in every time step; use a PoissonGroup",
    ),
    "a condition of a state": (
        {"model": "dv/dt = (2*int(v > 0.5) - v) / (10*ms) : 1"},
        "dv/dt depends on a condition of v; leave the condition out",
    ),
    "chance without a state": (
        {"model": "rate : Hz", "threshold": "rand() < rate*dt", "reset": None},
        "it fires by chance in every time step; use a PoissonGroup",
    ),
    "a refractory period of another unit": (
        {"refractory": "3*Hz"},
        "refractory '3*Hz': it is neither a time nor a condition; give a time, or a condition such as 'v > Vt'",
    ),
    "the refractory period": (
        {"threshold": "v > 1 and not_refractory", "refractory": 1 * ms},
        "it depends on whether the neuron is refractory; mark equations by (unless refractory)",
    ),
    "a condition that always holds": ({"threshold": "True"}, "threshold 'True': it does not depend on a state"),
    "a condition without int": ({"reset": "v += (i > 1)"}, "write int(...) around a condition"),
    "no state in the condition": ({"threshold": "i > 1"}, "it does not depend on a state variable"),
    "a nonlinear reset": ({"reset": "v = v**2"}, "reset 'v = v ** 2': the reset of v is not linear in v"),
    "a random reset": ({"reset": "v = rand()"}, "rand changes from call to call"),
    "a number as refractory period": ({"refractory": "v"}, "refractory 'v': it is neither a time nor a condition"),
    "a nonlinear refractory condition": (
        {"refractory": "v**2 > 1"},
        "refractory 'v**2 > 1': the condition is not linear in v",
    ),
    "a choice of refractory conditions": (
        {"refractory": "v > 1 or v < -1"},
        "it is not one comparison of states with >, >=, < or <=; write it as 'v > expression'",
    ),
    "a refractory condition of parameters": (
        {"model": f"{EQUATION}\nflag : boolean", "refractory": "flag"},
        "refractory 'flag': it does not depend on a state variable; give a time, or a condition of a state variable",
    ),
    "a refractory condition of the last spike": (
        {"refractory": "v > 0.5 and lastspike > 0*ms"},
        "it depends on time (lastspike)",
    ),
    "a refractory period that changes": (
        {"model": f"{EQUATION}\ndr/dt = -r / (5*ms) : second", "refractory": "r"},
        "refractory 'r': it depends on r, which changes during a run; give a time that does not change",
    ),
}


@pytest.mark.parametrize("name", GROUPS)
def test_groups(name):
    options, expected = GROUPS[name]
    message = refusal(group(**options))
    assert message.startswith("event_driven cannot run cells")
    assert expected in message
    assert "\n" not in message


def test_a_timed_array_in_a_synapse():
    cells = group(name="targets")
    names = {"table": brian2.TimedArray([1, 2], dt=1 * ms)}
    message = refusal(cells, *synapses(cells, "v_post += table(t)", namespace=names))
    assert "table is a TimedArray, which equations and rates can use but synapses cannot" in message


@pytest.mark.parametrize("name", ["square", "sinc", "beta", "Max", "own"])
def test_a_function_of_the_script(name):
    """numpy's square and sympy's beta are other functions."""
    namespace = {name: brian2.Function(lambda x: x + 10, arg_units=[1], return_unit=1, stateless=True)}
    message = refusal(group(f"dv/dt = ({name}(2) - v) / (10*ms) : 1", namespace=namespace))
    assert f"{name} is not a function of Brian2; set a parameter to its value before the run" in message
    assert f"{name} is not a function of Brian2" in refusal(group(reset=f"v = {name}(2)", namespace=namespace))
    cells = group(name="targets")
    assert f"{name} is not" in refusal(cells, *synapses(cells, f"v_post += {name}(2)", namespace=namespace))
    source = brian2.PoissonGroup(2, f"{name}(2)*Hz", namespace=namespace)
    assert f"{name} is not a function of Brian2; give constant rates" in refusal(source)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"on_post": "w += rand()", "model": "w : 1"}, "wires: w += rand(): rand changes from call to call"),
        ({"on_pre": "w += randn()", "model": "w : 1"}, "wires: w += randn(): randn changes from call to call"),
        ({"on_pre": "w += v_post", "model": "w : 1"}, "wires: w += v_post: it depends on v of 'cells', which changes"),
        ({"on_pre": "v_post += int(not_refractory_post)"}, "depends on not_refractory of 'cells', which changes"),
        ({"on_pre": "w = t - lastspike_post", "model": "w : second"}, "depends on lastspike of 'cells', which changes"),
        ({"on_post": "v_post = 1"}, "wires: v_post = 1: it does not add to v_post; write 'v_post += w'"),
        ({"on_post": "v_post *= 2"}, "it does not add to v_post"),
        ({"on_pre": "n += 1", "model": "n : integer"}, "wires: n: spikes change it, and it is an integer or boolean"),
        ({"on_pre": "w += dt/ms", "model": "w : 1"}, "wires: w += dt / ms: it depends on time (dt)"),
        ({"on_pre": "w = timestep(t, 1*ms)", "model": "w : 1"}, "timestep(t, 1 * ms) is no arithmetic of numbers"),
        (
            {"model": "dx/dt = -x**2 / (5*ms) : 1 (event-driven)"},
            "wires: dx/dt = -x**2 / (5*ms): dx/dt is not linear in x",
        ),
        (
            {"model": "dx/dt = -x / (5*ms) : 1 (event-driven)\ndy/dt = (x - y) / (5*ms) : 1 (event-driven)"},
            "wires: dy/dt = (x - y) / (5*ms): it depends on x, which changes too; write equations without x",
        ),
        (
            {"model": "tau : second\ndx/dt = -x / tau : 1 (event-driven)"},
            "wires: dx/dt = -x / tau: -1/tau is -inf in synapse 0; give its parameters finite values",
        ),
        ({"on_pre": "v_post = 1"}, "wires: v_post = 1: it sets the variable"),
        ({"on_pre": "v_post += 1 - v_post"}, "it sets the variable"),
        ({"on_pre": "v_post += 0.1*v_post"}, "what it adds depends on v_post"),
        ({"model": "w = rand() : 1 (constant over dt)"}, "it is computed once per time step; leave out (constant"),
        ({"on_pre": "v_post += rand()"}, "rand changes from call to call"),
        (
            {"model": "dx/dt = -x / (5*ms) : 1 (clock-driven)"},
            "dx/dt = -x / (5*ms): it is integrated in every time step; mark it (event-driven)",
        ),
    ],
)
def test_synapses(options, expected):
    cells = group(refractory=1 * ms)
    assert expected in refusal(cells, *synapses(cells, **options))


@pytest.mark.parametrize(
    ("model", "on_pre", "used"),
    [
        ("", "v_post += gain_post", "gain_post"),
        ("weight = 2*a_post : 1", "v_post += weight", "weight"),
        ("", "x = gain_post; v_post += x", "gain_post"),
    ],
)
def test_a_subexpression_of_what_spikes_change(model, on_pre, used):
    cells = group(f"{EQUATION}\na : 1\nhalf = a/2 : 1\ngain = 3*half : 1")
    source = brian2.SpikeGeneratorGroup(1, [0], [0.5] * ms)
    _, other = source, brian2.Synapses(source, cells, on_pre="a_post += 1")
    other.connect()
    message = refusal(cells, other, *synapses(cells, on_pre, model, source=source))
    assert f"what it adds depends on {used}, which spikes change" in message
    cells = group(f"{EQUATION}\na : 1\ngain = 3*a : 1", name="others", reset="v = 0; a += 1")
    drive = brian2.PoissonInput(cells, "v", 1, 1 * Hz, weight="gain")
    assert "what it adds depends on gain, which spikes change" in refusal(cells, drive)


def test_a_subexpression_of_a_state():
    source, cells = group(f"{EQUATION}\nhalf = v/2 : 1", name="source"), group()
    _, made = synapses(cells, "v_post += half_pre", source=source, delay=1 * ms)
    assert "what it adds depends on v of 'source', which changes during a run" in refusal(source, cells, made)


def test_a_refusal_is_one_line_without_comments():
    cells = group("dv/dt = (log(v)\n   - v) / (10*ms) : 1", name="curved")
    assert refusal(cells).startswith("event_driven cannot run curved: dv/dt = (log(v) - v) / (10*ms): dv/dt contains")
    cells, code = group(name="straight"), "v_post += 1   # one\n    v_post += 2 # two"
    _, wires = synapses(cells, None, on_post=code, source=cells)
    wires.post.when = "end"
    assert "wires: on_post 'v_post += 1; v_post += 2': it runs in the slot 'end'; leave it" in refusal(cells, wires)


def test_a_script_ends_with_the_refusal_alone():
    script = """
import mtt_brian.event_driven
from brian2 import *
set_device("event_driven")
curved = NeuronGroup(1, "dv/dt = (log(v) - v) / (10*ms) : 1", name="curved")
if fails:
    raise KeyError
run(1 * ms)
"""
    refused, failed = (
        subprocess.run(
            [sys.executable, "-c", f"fails = {fails}\n{script}"], capture_output=True, text=True, timeout=3600
        )
        for fails in (False, True)
    )
    assert refused.returncode == failed.returncode == 1
    assert refused.stderr.strip() == (
        "event_driven cannot run curved: dv/dt = (log(v) - v) / (10*ms): dv/dt contains log(v); write it with +, -, *, "
        "/, whole powers, exp, expm1, exprel, tanh, sinh and cosh of states, or use the standard device, "
        "set_device('runtime')"
    )
    assert "unexpected error" in failed.stderr
    assert "KeyError" in failed.stderr


def test_a_monitor_of_an_index():
    cells = group()
    _, wires = made = synapses(cells, "w += 1", "w : 1")
    for source in (cells, wires):
        message = refusal(cells, *made, brian2.StateMonitor(source, "i", record=True, name="watch*"))
        assert ": i: it is not a variable of the equations; record one that is" in message


def test_plastic_synapses_that_depend_on_what_spikes_change():
    cells = group(f"{EQUATION}\na : 1")
    _, adding = synapses(cells, "a_post += 1", source=cells)
    adding.delay = 1 * ms
    for model, code, line in [
        ("w : 1", "w += a_post", "w += a_post"),
        ("x : 1\nw = x*a_post : 1", "x += w", "x += w"),
        ("dx/dt = (a_post - x) / ms : 1 (event-driven)", "x += 1", "dx/dt = (a_post - x) / ms"),
    ]:
        made = brian2.Synapses(cells, cells, model, on_pre=code, name="others*")
        made.connect()
        message = refusal(cells, adding, made)
        assert f"{line}: " in message
        assert "which spikes change" in message


def test_synapses_that_start_at_what_is_not_finite():
    cells = group()
    _, wires = made = synapses(cells, "w += 1", "w : 1")
    wires.w = np.nan
    assert "wires: w: synapse 0 starts at nan; set it to finite values before the run" in refusal(cells, *made)


def test_gap_junctions():
    cells = group("dv/dt = (gap - v) / (10*ms) : 1\ngap : 1")
    made = brian2.Synapses(cells, cells, "gap_post = v_pre - v_post : 1 (summed)", name="wires")
    made.connect()
    assert "wires: gap_post (summed): a summed variable" in refusal(cells, made)


def test_operations_in_every_time_step():
    cells = group()
    operation = brian2.NetworkOperation(lambda: None, name="operation")
    message = refusal(cells, operation)
    assert "operation: a network_operation runs code at certain times; split the run" in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"code": "v = 0", "when": "end"}, "cells: run_regularly 'v = 0': it runs in the slot 'end'; leave it in"),
        ({"code": "v = int(t > lastspike)"}, "cells: run_regularly 'v = int(t > lastspike)': it depends on lastspike"),
        ({"code": "n += 1"}, "cells: n: it changes during a run, and it is an integer or boolean; declare it as"),
    ],
)
def test_code_that_runs_regularly(options, expected):
    cells = group("dv/dt = -v/tau : 1\ntau : second\nn : integer", refractory=1 * ms)
    cells.tau = 10 * ms
    cells.run_regularly(dt=1 * ms, **options)
    assert expected in refusal(cells)


@pytest.mark.parametrize("kind", ["poisson", "generator", "synapses"])
def test_code_that_runs_regularly_unless_it_is_inactive(kind):
    cells, poisson = group(), brian2.PoissonGroup(2, 10 * Hz)
    _, made = synapses(cells, model="w : 1", source=cells, delay=1 * ms)
    generator = brian2.SpikeGeneratorGroup(1, [0], [0.5] * ms)
    part = {"poisson": poisson, "generator": generator, "synapses": made}[kind]
    operation = part.run_regularly("rates = 0*Hz" if kind == "poisson" else "w = 0", dt=1 * ms)
    # With an operation of their own, synapses belong to the group, from which Brian2 runs them.
    network = brian2.Network(cells, poisson, generator, *([] if kind == "synapses" else [made]))
    with pytest.raises(InputError, match=f"{operation.name}: it runs code at certain times"):
        network.run(1 * ms)
    operation.active = False
    cells.v = [2, 0]
    network.run(2 * ms)
    assert cells.v[1] == pytest.approx(math.exp(-0.1), abs=1e-12)  # of the synapse, 1 ms later


def test_other_events():
    cells = group(events={"low": "v < -1"})
    assert "cells: event 'low': events other than spikes" in refusal(cells)


def test_rates_that_depend_on_time():
    source = brian2.PoissonGroup(2, "10*Hz * (1 + sin(t / (10*ms)))", name="source")
    assert "source: 10*Hz * (1 + sin(t / (10*ms))): it depends on time (t); give constant rates" in refusal(source)


@pytest.mark.parametrize(("rate", "shown"), [(-1, "-1"), (np.nan, "nan"), (np.inf, "inf")])
def test_rates_that_are_none(rate, shown):
    source = brian2.PoissonGroup(2, [1, rate] * Hz, name="source")
    assert f"source: rates: the rate of neuron 1 is {shown} Hz" in refusal(source)


@pytest.mark.parametrize(
    ("count", "rate", "expected"),
    [(-1, 10, "N: it is -1;"), (1, -10, "rate: it is -10 Hz;"), (1, np.nan, "rate: it is nan Hz;")],
)
def test_poisson_inputs_that_are_none(count, rate, expected):
    cells = group()
    source = brian2.PoissonInput(cells, "v", count, rate * Hz, weight=1)
    assert f"event_driven cannot run {source.name}: {expected} give a number >= 0" in refusal(cells, source)


def test_rates_that_no_memory_can_hold():
    source = brian2.PoissonGroup(2, 1e20 * Hz, name="source")
    assert "source: it would send about 2e+17 spikes in this run, more than 1e+09; lower its rates" in refusal(source)
    cells = group()
    other = brian2.PoissonInput(cells, "v", 1, np.inf * Hz, weight=1)
    assert f"{other.name}: it would send about inf spikes" in refusal(cells, other)
    periodic = brian2.SpikeGeneratorGroup(1, [0], [0] * ms, period=1e-4 * second, name="periodic")
    assert "periodic: it would send about 1e+10 spikes in this run" in refusal(periodic, duration=1e6 * second)


@pytest.mark.parametrize("tau", [0, -1])
def test_time_constants_that_are_not_positive(tau):
    cells = group("dv/dt = -v / tau : 1\ntau : second")
    cells.tau = [1, tau] * ms
    expected = (
        "is -inf in neuron 1 (tau = 0)" if tau == 0 else "v grows without bound (rate 1000 per second in neuron 1)"
    )
    assert expected in refusal(cells)


def test_a_neuron_that_fires_too_fast():
    cells = group("dv/dt = (2 - v) / tau : 1\ntau : second")
    cells.tau = [0.01, 1e-9] * second
    message = refusal(cells, duration=1 * second)
    assert message.startswith("neuron 1 of 'cells' fires more than 1e+06 times per second, at ")
    assert message.endswith("check its time constants and what drives it, or give it a refractory period")


@pytest.mark.parametrize(
    ("model", "rate"),
    [
        ("dv/dt = (2 - v) / tau : 1", "1e+20"),
        ("dv/dt = w / tau : 1\ndw/dt = -v / tau : 1", "1e+20"),
        ("dv/dt = u / (10*ms) : 1\ndu/dt = -u / tau : 1", "1e+20"),
    ],
)
def test_time_constants_that_are_too_short(model, rate):
    cells = group(f"{model}\ntau : second")
    cells.tau = [0.01, 1e-20] * second
    name = "u" if "du/dt" in model else "v"
    message = refusal(cells)
    assert f"{name} changes at a rate of {rate} per second in neuron 1, faster than float64 resolves times; " in message
    assert message.endswith("give it a time constant of 1e-15 s or more")


def test_a_drive_that_reaches_the_threshold_at_once():
    cells = group("dv/dt = (drive - v) / (10*ms) : 1\ndrive : 1")
    cells.drive = [2, 1e20]
    assert "neuron 1 of 'cells' fires without end at 0 s" in refusal(cells)
    cells = group("dv/dt = (drive - v) / (10*ms) : 1\ndrive : 1", name="others")
    cells.drive = [2, 1e308]
    assert "is inf in neuron 1 (drive = 1e+308, ms = 0.001); give its parameters finite values" in refusal(cells)


def test_a_short_time_constant_with_a_refractory_period():
    cells = group("dv/dt = (2 - v) / (1e-12*second) : 1", refractory=1 * ms)
    monitor = brian2.SpikeMonitor(cells)
    brian2.Network(cells, monitor).run(10.5 * ms)
    assert monitor.count[:].tolist() == [11, 11]


def test_values_that_are_no_numbers():
    for value in (np.nan, -1e308):
        cells = group(name="cells*")
        cells.v = [0, value]
        message = refusal(cells)
        assert f": v: neuron 1 starts at {value}; set it to a number from -1e+300 to 1e+300 before the run" in message
    cells = group("dv/dt = (drive - v) / (10*ms) : 1\ndrive : 1", name="others")
    cells.drive = [0, np.inf]
    assert "is inf in neuron 1 (drive = inf)" in refusal(cells)
    cells = group(name="targets")
    source, made = synapses(cells, "v_post += w", "w : 1")
    made.w = [0, np.nan]
    assert "wires: v_post += w: synapse 1 adds nan; give it a finite weight" in refusal(cells, source, made)


def test_units_are_checked_by_brian2():
    cells = group("dv/dt = -v / (10*mV) : 1")
    with pytest.raises(brian2.BrianObjectException, match="cells") as caught:
        brian2.Network(cells).run(1 * ms)
    assert isinstance(caught.value.__cause__, brian2.DimensionMismatchError)
    for options in ({"threshold": "v > 1*mV"}, {"reset": "v = 1*mV"}, {"refractory": 3 * mV}):
        with pytest.raises(brian2.BrianObjectException) as caught:
            brian2.Network(group(name="cells*", **options)).run(1 * ms)
        assert isinstance(caught.value.__cause__, brian2.DimensionMismatchError)
    cells = group(name="targets")
    volts = brian2.NeuronGroup(2, "dv/dt = -v / (10*ms) : volt", name="volts")
    for options in ({"on_pre": "v_post += 1"}, {"on_pre": "v_post += u", "model": "w : 1\nu = 2*w : volt"}):
        with pytest.raises(brian2.BrianObjectException, match="wires") as caught:
            brian2.Network(volts, *synapses(volts, **options)).run(1 * ms)
        assert isinstance(caught.value.__cause__, brian2.DimensionMismatchError)
    source = brian2.PoissonInput(volts, "v", 1, 10 * Hz, weight="2")
    with pytest.raises(brian2.BrianObjectException, match="poissoninput") as caught:
        brian2.Network(volts, source).run(1 * ms)
    assert isinstance(caught.value.__cause__, brian2.DimensionMismatchError)


def test_unknown_names_are_found_by_brian2():
    with pytest.raises(brian2.BrianObjectException, match="cells") as caught:
        brian2.Network(group("dv/dt = (nowhere - v) / (10*ms) : 1")).run(1 * ms)
    assert "nowhere" in str(caught.value.__cause__)


def test_synapses_without_connect():
    cells = group()
    with pytest.raises(brian2.BrianObjectException) as caught:
        brian2.Network(cells, *synapses(cells, connect=False)).run(1 * ms)
    assert "it has not created synapses with 'connect'" in str(caught.value.__cause__)


def test_a_device_that_is_switched_within_a_script():
    brian2.set_device("runtime")
    early = group(name="early")
    brian2.set_device("event_driven")
    assert "'early' was created before set_device('event_driven')" in refusal(early)


def test_a_device_that_is_switched_back_within_a_script():
    late = group(name="late")
    watch = brian2.StateMonitor(late, "v", record=True, name="watch")
    network = brian2.Network(late, watch)
    brian2.set_device("runtime")
    with pytest.raises(brian2.BrianObjectException) as caught:
        network.run(1 * ms)
    line = r"'(late|watch)\w*' was created on the device 'event_driven' and cannot run on 'runtime'; create all objects"
    assert re.search(line, str(caught.value.__cause__))
    brian2.Network(group(name="new")).run(1 * ms)
    brian2.set_device("event_driven")
    network.run(1 * ms)
    assert watch.t[:].size


def test_a_group_is_forgotten_with_its_name():
    forgotten = weakref.ref(group(name="short"))
    gc.collect()
    assert forgotten() is None


def test_a_report_that_is_none():
    with pytest.raises(InputError, match="report must be 'text', 'stdout', 'stderr' or a function, not 'graphical'"):
        brian2.Network(group()).run(1 * ms, report="graphical")


@pytest.mark.parametrize("duration", [-1, np.nan, np.inf])
def test_a_duration_that_is_none(duration):
    with pytest.raises(ValueError, match="finite, non-negative duration"):
        brian2.Network(group()).run(duration * ms)


def test_a_neuron_with_compartments():
    cell = brian2.SpatialNeuron(
        brian2.Soma(diameter=10 * brian2.um), "Im = -1*siemens/meter**2*v : amp/meter**2", name="cell"
    )
    assert "event_driven cannot run cell" in refusal(cell)


def test_objects_of_another_network():
    cells = group()
    one, other = brian2.Network(cells), brian2.Network(cells)
    one.run(0 * second)
    with pytest.raises(RuntimeError, match="has already been run in the context of another network"):
        other.run(1 * ms)


def in_slot(slot):
    """Objects of a small network, one of them in another slot, and the name of that one."""
    cells = group(name="cells*")
    source, wires = synapses(cells, source=None)
    monitor = brian2.SpikeMonitor(cells, variables="v", name="spikes*")
    drive = brian2.PoissonInput(cells, "v", 1, 1 * Hz, weight=1)
    moved = {
        "thresholds": cells.thresholder["spike"],
        "resets": cells.resetter["spike"],
        "groups": cells.state_updater,
        "a source": source,
        "arrivals": drive,
        "values at spikes": monitor,
        "synapses": wires.pre,
    }[slot]
    return (cells, source, wires, monitor, drive), moved


@pytest.mark.parametrize(
    "slot", ["thresholds", "resets", "groups", "a source", "arrivals", "values at spikes", "synapses"]
)
def test_objects_in_another_slot(slot):
    objects, moved = in_slot(slot)
    usual = moved.when
    moved.when = "after_resets"
    message = refusal(*objects)
    name = "wires: on_pre 'v_post += 1'" if slot == "synapses" else moved.name
    assert (
        message == f"event_driven cannot run {name}: it runs in the slot 'after_resets'; leave it in the slot {usual!r}"
    )


def test_spikes_are_recorded_in_any_slot():
    cells = group("dv/dt = (1.5 - v) / (10*ms) : 1")
    monitor = brian2.SpikeMonitor(cells, when="end")
    brian2.Network(cells, monitor).run(12 * ms)
    assert monitor.num_spikes == 2


def test_slots_in_another_order():
    cells = group()
    network = brian2.Network(cells)
    network.schedule = ["start", "groups", "thresholds", "resets", "synapses", "end"]
    with pytest.raises(InputError, match=r"cannot run the network: schedule .*another order than Brian2's; use"):
        network.run(1 * ms)
    assert "the network" in str(mtt_brian.event_driven.explain(network))
    network.schedule = ["start", "groups", "thresholds", "synapses", "between", "resets", "end"]
    network.run(1 * ms)


def test_a_name_of_two_objects():
    """Brian2 refuses it too; here one would have had the states of the other."""
    first, second_, third = group(name="same"), group(name="same"), group(name="other")
    message = refusal(first, second_, third)
    assert message == "event_driven cannot run same: 2 objects have this name; give each a name of its own"


def test_a_method_that_does_not_exist():
    for method in ("exact", "rk4", ("exact", "euler"), "EULER"):
        brian2.Network(group(method=method, name="cells*")).run(1 * ms)
    assert refusal(group(method="eulr")).startswith(
        "event_driven cannot run cells: method 'eulr': Brian2 has no such method; leave it out"
    )


def test_links():
    """An array of the linked group has another length than the group."""
    cells = group()
    linked = brian2.NeuronGroup(10, "x : 1 (linked)\ndouble = 2*x : 1", name="followers")
    linked.x = brian2.linked_var(cells, "v", index=np.repeat([0, 1], 5))
    monitor = brian2.StateMonitor(linked, "double", record=True)
    message = refusal(cells, linked, monitor)
    assert message.startswith("event_driven cannot run followers: x (linked): a linked variable; if its value does not")
    assert "\n" not in message
    source, wires = synapses(cells, "v_post += gain", "gain : 1 (linked)")
    wires.gain = brian2.linked_var(brian2.NeuronGroup(1, "gain = 2*t/second : 1", name="gains"), "gain")
    assert "cannot run wires: gain (linked): a linked variable" in refusal(cells, source, wires)


@pytest.mark.parametrize(
    ("slot", "refused"), [("before_synapses", ""), ("synapses", "cells wires"), ("before_resets", "cells"), ("end", "")]
)
def test_states_between_arrivals_and_resets(slot, refused):
    """A reset changes no variable of a synapse."""
    cells = group()
    _, wires = made = synapses(cells, "w += 1", "w : 1")
    for recorded, variable in ((cells, "v"), (wires, "w")):
        monitor = brian2.StateMonitor(recorded, variable, record=True, when=slot, name="states*")
        found = str(mtt_brian.event_driven.explain(brian2.Network(cells, *made, monitor)))
        expected = f"{monitor.name}: it records in the slot {slot!r}; record in the slot 'start'"
        assert (expected in found) == (recorded.name in refused)


def test_monitors_that_no_memory_can_hold():
    cells = group()
    states = brian2.StateMonitor(cells, "v", record=True, name="states")
    rates = brian2.PopulationRateMonitor(cells, name="rates")
    for monitor in (states, rates):
        network = brian2.Network(cells, monitor)
        with pytest.raises(InputError, match=f"cannot run {monitor.name}: it would record at 1e\\+12 times"):
            network.run(1e8 * second)
        assert network.t == 0 * second
    spikes = brian2.SpikeMonitor(cells)  # no other object samples, so the duration does not count
    brian2.Network(cells, spikes).run(1e8 * second)


def test_a_notice_for_many_samples(monkeypatch, caplog):
    cells = group()
    monitor = brian2.StateMonitor(cells, "v", record=True, dt=1 * ms, name="states")
    network = brian2.Network(cells, monitor)
    monkeypatch.setattr("mtt_brian.engines.brian2.device.MANY_STEPS", 10)
    caplog.set_level("INFO", logger="mtt_brian")
    network.run(10 * ms)
    assert "takes long" not in caplog.text
    network.run(11 * ms)
    assert "states runs at 11 times, which takes long; a longer dt makes them fewer" in caplog.text


def test_a_refusal_in_another_process():
    """Pools send exceptions as pickles."""
    with pytest.raises(mtt_brian.event_driven.Refused) as caught:
        brian2.Network(group("dv/dt = log(v) / ms : 1")).run(1 * ms)
    sent = pickle.loads(pickle.dumps(caught.value))
    assert (str(sent), sent.reasons) == (str(caught.value), caught.value.reasons)


def test_the_first_equation_by_name_is_refused():
    """Brian2 has them in a set, whose order changes from process to process."""
    cells = group()
    model = "\n".join(f"d{name}/dt = -{name} / ms : 1 (clock-driven)" for name in "dbca")
    assert "wires: da/dt = -a / ms: it is integrated in every" in refusal(cells, *synapses(cells, "a += 1", model))
