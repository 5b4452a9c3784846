"""Equations, threshold, reset and synapses of a Brian2 script, as text and values, become a `Circuit`.

Nothing here reads Brian2 objects: `mtt_brian.engines.brian2.script` turns them into the descriptions below. What cannot
run exactly is refused with the object, the line of its text, the reason, and the nearest thing that can.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import sympy
from scipy.special import exprel
from sympy.printing.numpy import NumPyPrinter

from mtt_brian.circuit.model import Circuit, Connection, Population
from mtt_brian.circuit.operators import Synapses
from mtt_brian.circuit.plasticity import PlasticPathway, PlasticSynapses
from mtt_brian.errors import InputError
from mtt_brian.neuron.equation_neuron import MOST_STATES, Changes, EquationNeuron, Systems
from mtt_brian.text import shortened
from mtt_brian.translate.right_sides import Impossible, RightSides, Terms, expanded
from mtt_brian.translate.synapse_programs import CannotCompute, Columns, ProgramBuilder
from mtt_brian.translate.timed_arrays import TimedArray, call_of, pieces, without_calls

#: Name of the one input of a circuit: all sources of spikes one after another. No Brian2 object can have it.
SOURCES = "all sources"
#: Rates per second above which a variable changes faster than two instants can be told apart (`circuit.instants`).
FASTEST = 1e15
#: Values of timed arrays in a run, times different neurons of the group: each needs parameters of its own.
MOST_VALUES = 250_000
_CLOCK = "use the standard device, set_device('runtime')"
_OPERATORS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}


class Refused(InputError):
    """What a script has that cannot run exactly.

    Attributes:
        reasons: every `Refusal`.
    """

    def __init__(self, reasons: Sequence[Refusal]) -> None:
        super().__init__("\n".join(map(str, reasons)))
        self.reasons = tuple(reasons)

    def __reduce__(self) -> tuple[Any, ...]:
        """As pools of processes send it."""
        return Refused, (self.reasons,)


class Refusal(NamedTuple):
    """One thing that cannot run exactly.

    Attributes:
        name: of the object.
        line: its text; empty where the whole object is meant.
        reason: why.
        instead: the nearest thing that can run.
    """

    name: str
    line: str
    reason: str
    instead: str

    def __str__(self) -> str:
        line = " ".join(self.line.split())
        where = f"{self.name}: {line}" if line else self.name
        return f"event_driven cannot run {where}: {self.reason}; {self.instead}"


class _Stop(Exception):
    """A refusal on its way up; line, reason and remedy."""


@dataclass(frozen=True, eq=False)
class Group:
    """A `NeuronGroup` as text and values in base units.

    Attributes:
        name: of the object.
        size: neurons.
        equations: right sides of the differential equations, by variable, in the order of the text.
        unless_refractory: variables that are constant during the refractory period.
        subexpressions: by name.
        parameters: names of the parameters of the equations.
        values: every other name in the texts: a number, or one value per neuron; parameters and states included.
        functions: names that are functions, and why a call has no value before the run; "" where it has one.
        threshold, reset: texts; None without one.
        refractory: seconds, or the text of a time or a condition; None without one.
        refractory_holds: whether that text is a condition.
        own_names: names that the reset defines for itself.
        arrays: names that are timed arrays.
        regularly: variables that change at certain times.
    """

    name: str
    size: int
    equations: Mapping[str, str]
    unless_refractory: frozenset[str]
    subexpressions: Mapping[str, str]
    parameters: frozenset[str]
    values: Mapping[str, Any]
    functions: Mapping[str, str]
    threshold: str | None
    reset: str | None
    refractory: float | str | None
    refractory_holds: bool = False
    own_names: frozenset[str] = frozenset()
    arrays: Mapping[str, TimedArray] = field(default_factory=dict)
    regularly: frozenset[str] = frozenset()

    def states(self, changed: frozenset[str]) -> tuple[str, ...]:
        """The states: what has an equation, then the parameters that spikes change."""
        return (*self.equations, *sorted(changed - set(self.equations)))


@dataclass(frozen=True, eq=False)
class Plastic:
    """What the pathways of `Synapses` share whose variables spikes change.

    Attributes:
        name: of the object.
        variables: names of the variables that change.
        equations: right sides of the differential equations, by variable; ``lastupdate`` is then a variable too.
        subexpressions: those that depend on variables, by name.
        ends: groups or sources before and behind the synapses, and the neuron of every synapse in them.
    """

    name: str
    variables: tuple[str, ...]
    equations: Mapping[str, str]
    subexpressions: Mapping[str, str]
    ends: tuple[tuple[str, np.ndarray], tuple[str, np.ndarray]]


@dataclass(frozen=True, eq=False)
class Pathway:
    """One pathway of `Synapses`, or a `PoissonInput`, as text and values in base units.

    Attributes:
        name: of the object.
        source: name of the group or source of spikes.
        target: name of the group.
        code: the statements.
        i, j: neuron of the source and of the target of every synapse, counted in the whole groups.
        variables: the variable of the target (of both ends, if it is plastic) that a name in the statements stands for.
        reads: groups and their variables that the value of a name depends on, those in subexpressions included.
        values, functions: as of a group; a number, or one value per synapse.
        seconds: delay, a number or one per synapse.
        own_names: names that the statements define for themselves.
        plastic: the synapses, if the statements do more than to add constants to variables of the target.
        end: of these, 0 or 1, to which a name in ``variables`` belongs.
        order: pathways that are reached at one instant are executed by rising order.
    """

    name: str
    source: str
    target: str
    code: str
    i: np.ndarray
    j: np.ndarray
    variables: Mapping[str, str]
    reads: Mapping[str, frozenset[tuple[str, str]]]
    values: Mapping[str, Any]
    functions: Mapping[str, str]
    seconds: float | np.ndarray
    own_names: frozenset[str] = frozenset()
    plastic: Plastic | None = None
    end: Mapping[str, int] = field(default_factory=dict)
    order: tuple[int, str] = (0, "")


@dataclass(frozen=True, eq=False)
class Script:
    """What a run consists of.

    Attributes:
        groups: the neurons.
        sources: number of neurons of everything else that emits spikes, by name.
        pathways: from sources and groups to groups.
        refusals: what could not be described at all.
        begin, end: of the run, seconds.
        rates: of Poisson groups, by name: times in seconds from which on they hold [P], and Hz [P, N].
    """

    groups: Sequence[Group]
    sources: Mapping[str, int]
    pathways: Sequence[Pathway]
    refusals: Sequence[Refusal] = field(default=())
    begin: float = 0.0
    end: float = 0.0
    rates: Mapping[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Translation:
    """A circuit, and where the parts of the script are in it.

    Attributes:
        circuit: its one input is `SOURCES`; its populations have the names of the groups.
        states: names of the states of every group; those without any are not in the circuit.
        first: where a source of spikes begins among the neurons of the input.
        plastic: synapses whose variables spikes change; they connect the parts of the circuit.
    """

    circuit: Circuit
    states: Mapping[str, tuple[str, ...]]
    first: Mapping[str, int]
    plastic: tuple[PlasticSynapses, ...] = ()


def circuit_of(script: Script) -> Translation:
    """Translates a script.

    Raises:
        Refused: lists everything that cannot run exactly.
    """
    refusals = list(script.refusals)
    changed: dict[str, set[str]] = {g.name: set(g.regularly) for g in script.groups}
    jumps: list[tuple[Pathway, str, np.ndarray]] = []
    programs: list[tuple[Pathway, ProgramBuilder]] = []
    columns = {p.plastic: Columns(len(p.i), p.plastic.variables) for p in script.pathways if p.plastic is not None}
    for pathway in script.pathways:
        try:
            if pathway.plastic is not None:
                _check_delays(pathway)
                programs.append((pathway, _program(pathway, pathway.plastic, columns[pathway.plastic])))
                for end, variable in programs[-1][1].entered:
                    changed.get(pathway.plastic.ends[end][0], set()).add(variable)
                continue
            if pathway.target not in changed:
                continue  # its target is refused
            for variable, jump in _jumps(pathway):
                changed[pathway.target].add(variable)
                jumps.append((pathway, variable, jump))
        except _Stop as stop:
            refusals.append(Refusal(pathway.name, *stop.args))
    rules: dict[str, EquationNeuron] = {}
    states: dict[str, tuple[str, ...]] = {}
    for group in script.groups:
        try:
            assigned = frozenset(changed[group.name]) | {name for name, _, _ in _statements(group.reset or "")}
            states[group.name] = group.states(assigned - group.own_names)
            if states[group.name] or group.threshold is not None:
                rules[group.name] = _rule(group, states[group.name], pieces(group.arrays, script.begin, script.end))
        except _Stop as stop:
            refusals.append(Refusal(group.name, *stop.args))
    if not refusals:
        refusals += [Refusal(*found) for found in _changing_values(script.pathways, states)]
    if refusals:
        raise Refused(refusals)
    first, total = {}, 0
    for name, size in script.sources.items():
        first[name] = total
        total += size
    size_of = {g.name: g.size for g in script.groups}
    connections = []
    for pathway, variable, jump in jumps:
        outside = pathway.source in first
        n_in = max(total, 1) if outside else size_of[pathway.source]
        synapses = Synapses(
            source=pathway.i + first[pathway.source] if outside else pathway.i,
            target=pathway.j,
            weight=jump,
            seconds=np.broadcast_to(np.asarray(pathway.seconds, dtype=np.float64), len(pathway.i)),
            input_shape=(n_in,),
            output_shape=(size_of[pathway.target],),
        )
        source = SOURCES if outside else pathway.source
        port = states[pathway.target].index(variable)
        connections.append(Connection(source, pathway.target, (synapses,), (pathway.name,), n_in, port))
    circuit = Circuit(
        input=SOURCES,
        input_shape=(max(total, 1),),
        populations=tuple(Population(name, (size_of[name],), rule) for name, rule in rules.items()),
        connections=tuple(connections),
        output=next(reversed(rules), SOURCES),
    )
    return Translation(circuit, states, first, _plastic_synapses(programs, columns, states, first, size_of, total))


def evaluate(
    text: str,
    values: Mapping[str, Any],
    functions: Mapping[str, str],
    arrays: Mapping[str, TimedArray] | None = None,
    t: np.ndarray | None = None,
) -> Any:
    """The value of an expression without states: a number or an array.

    Args:
        text: the expression.
        values, functions: as of a group.
        arrays: names that are timed arrays.
        t: seconds for these, in a shape that fits those of the values.

    Raises:
        Refused: for what depends on time or chance.
    """
    arrays = arrays or {}
    try:
        expression = _parsed(text, text, functions, arrays)

        def column(index: str) -> np.ndarray:
            return _value(_parsed(index, text, functions), text, values)

        return _value(expression, text, {**values, **_timed_values(expression, text, arrays, t, column)})
    except _Stop as stop:
        raise Refused([Refusal("an expression", *stop.args)]) from None


# ---- Text ------------------------------------------------------------------------------------------------------------


def in_one_line(code: str) -> str:
    """Statements as a refusal shows them: on one line, without comments."""
    lines = (line.split("#")[0].strip() for line in code.splitlines())
    return shortened("; ".join(filter(None, lines)), 100)


def _parsed(
    text: str, line: str, functions: Mapping[str, str], arrays: Mapping[str, TimedArray] | None = None
) -> sympy.Expr:
    """An expression by sympy. The text of a call of a timed array is a symbol.

    Args:
        text: the expression.
        line: what a refusal shows.
        functions: names of functions, and why a call has no value before the run; "" where it has one.
        arrays: names that are timed arrays.
    """
    from brian2.parsing.sympytools import str_to_sympy

    arrays = arrays or {}
    text, calls = without_calls(text, arrays)
    for call in calls.values():
        _check_call(call, line, arrays)
    _check_names(text, line, functions)
    try:
        expression = sympy.sympify(str_to_sympy(text))
    except (SyntaxError, ValueError, KeyError, NotImplementedError) as error:
        compares = any(sign in text for sign in ("<", ">", "==", "!="))
        instead = "write int(...) around a condition" if compares else _CLOCK
        if _has_chain(text):
            instead = "compare two values only"
        raise _Stop(line, f"it cannot be read ({error})", instead) from None
    return expression.xreplace({_symbol(name): _symbol(call) for name, call in calls.items()})


def _check_names(text: str, line: str, functions: Mapping[str, str], known: Sequence[str] = ()) -> None:
    """Raises _Stop for names in an expression that have no value before the run, but those that are ``known``."""
    names = [name for name in _names(text) if name not in known]
    for name in names:
        if name == "xi" or name.startswith("xi_"):
            raise _Stop(line, f"it is noisy ({name})", f"leave the noise out, or {_CLOCK}")
        if obstacle := functions.get(name):
            instead = f"set a parameter to its value before the run, or {_CLOCK}"
            raise _Stop(line, f"{name} {obstacle}", instead)
    if "not_refractory" in names:
        instead = "mark equations by (unless refractory); a refractory neuron does not fire in any case"
        raise _Stop(line, "it depends on whether the neuron is refractory", instead)
    for name in names:
        if name in ("t", "t_in_timesteps", "dt", "lastspike"):
            instead = f"give what depends on it as a TimedArray, change a parameter between two runs, or {_CLOCK}"
            raise _Stop(line, f"it depends on time ({name})", instead)


def _check_call(text: str, line: str, arrays: Mapping[str, TimedArray]) -> None:
    """Raises _Stop unless a timed array is called with the time, and a column if it has several."""
    call = call_of(text)
    name = text[: text.index("(")]
    several = arrays[name].values.ndim == 2
    if call is None or bool(call.column) != several:
        wanted = f"{name}(t, i)" if several else f"{name}(t)"
        raise _Stop(line, f"{text} is not a call with the time of the run", f"write {wanted}")


def _timed_values(
    expression: sympy.Expr,
    line: str,
    arrays: Mapping[str, TimedArray],
    t: np.ndarray | None,
    column: Callable[[str], np.ndarray],
) -> dict[str, np.ndarray]:
    """The values of all calls of timed arrays in an expression, at the times ``t``; ``column`` reads an index."""
    out = {}
    for text in sorted(str(s) for s in expression.free_symbols if "(" in str(s)):
        call = call_of(text)
        assert call is not None
        assert t is not None
        array = arrays[call.array]
        if not call.column:
            out[text] = array.at(t)
            continue
        given, columns = column(call.column), array.values.shape[1]
        if not np.all(ok := (given == np.floor(given)) & (given >= 0) & (given < columns)):
            bad = np.ravel(given)[np.argmin(np.ravel(ok))]
            raise _Stop(line, f"{text}: there is no column {bad:g}", f"give whole numbers from 0 to {columns - 1}")
        out[text] = array.at(t, given.astype(np.int64))
    return out


def _names(text: str) -> list[str]:
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except SyntaxError:
        return []
    return sorted({node.id for node in ast.walk(tree) if isinstance(node, ast.Name)})


def _has_chain(text: str) -> bool:
    """Whether an expression compares more than two values at once, as ``a < b < c``."""
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except SyntaxError:
        return False
    return any(isinstance(node, ast.Compare) and len(node.ops) > 1 for node in ast.walk(tree))


def _statements(code: str) -> list[tuple[str, str, str]]:
    """Assignments as (variable, right side, line), ``+=`` and its like written out."""
    out = []
    try:
        tree = ast.parse("\n".join(line.strip() for line in code.strip().splitlines()))
    except SyntaxError:
        raise _Stop(in_one_line(code), "it is not a list of assignments", "write 'variable = expression'") from None
    for node in tree.body:
        line = ast.unparse(node)
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            out.append((node.targets[0].id, ast.unparse(node.value), line))
        elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name) and type(node.op) in _OPERATORS:
            name = node.target.id
            out.append((name, f"{name} {_OPERATORS[type(node.op)]} ({ast.unparse(node.value)})", line))
        else:
            raise _Stop(line, "it is not an assignment with =, +=, -=, *= or /=", "write 'variable = expression'")
    return out


def _symbol(name: str) -> sympy.Symbol:
    return sympy.Symbol(name, real=True)


class _Printer(NumPyPrinter):
    """Numbers with all their digits; sympy prints 15 of 17."""

    def _print_Float(self, expr: sympy.Float) -> str:
        return repr(float(expr))


def _value(expression: sympy.Expr, line: str, values: Mapping[str, Any]) -> Any:
    """A sympy expression in numbers, float64; arrays where a value is one."""
    names = sorted(str(s) for s in expression.free_symbols)
    for name in names:
        if name not in values:
            raise _Stop(line, f"{name} is not a constant", _CLOCK)
    try:
        # Under other names than those of the script: one of these can be that of a function of numpy.
        modules = [{"exprel": exprel}, "numpy"]
        printer = _Printer({"fully_qualified_modules": False, "inline": True, "allow_unknown_functions": True})
        symbols = [_symbol(name) for name in names]
        function = sympy.lambdify(symbols, expression, modules, printer=printer, dummify=True)
        with np.errstate(all="ignore"):
            # In one shape: ``and`` and ``or`` do not take several.
            given = np.broadcast_arrays(*(np.asarray(values[name], dtype=np.float64) for name in names))
            found = np.asarray(function(*given))
        if found.dtype.kind not in "fiub":
            raise TypeError(f"its value is {found.dtype}")
    except (TypeError, NameError, ValueError) as error:
        raise _Stop(line, f"it cannot be computed ({error})", _CLOCK) from None
    return found.astype(np.float64)


class _Affine(NamedTuple):
    """``sum of coefficient_k state_k + constant``; expressions without states."""

    coefficients: tuple[sympy.Expr, ...]
    constant: sympy.Expr


def _affine(expression: sympy.Expr, states: Sequence[str], line: str, what: str) -> _Affine:
    symbols = [_symbol(name) for name in states]
    found, nonlinear = _linear_part(expression, symbols, line, what)
    if found is None:
        raise _Stop(line, f"{what} is not linear in {nonlinear}", f"linearise it, or {_CLOCK}")
    return found


def _linear_part(
    expression: sympy.Expr, symbols: Sequence[sympy.Symbol], line: str, what: str
) -> tuple[_Affine | None, sympy.Symbol | None]:
    """The coefficients of an expression that is linear in the states; or a state in which it is not."""
    for condition in expression.atoms(sympy.core.relational.Relational, sympy.logic.boolalg.BooleanFunction):
        for x in symbols:
            if x in condition.free_symbols:
                raise _Stop(line, f"{what} depends on a condition of {x}", f"leave the condition out, or {_CLOCK}")
    coefficients = [sympy.diff(expression, x) for x in symbols]
    if any(c.free_symbols & set(symbols) for c in coefficients):
        expression = expanded(expression)
        coefficients = [sympy.diff(expression, x) for x in symbols]
    for x, coefficient in zip(symbols, coefficients, strict=True):
        if coefficient.free_symbols & set(symbols):
            return None, x
    return _Affine(tuple(coefficients), expression.xreplace({x: sympy.Integer(0) for x in symbols})), None


def _terms(expression: sympy.Expr, right_sides: RightSides, states: Sequence[str], line: str, what: str) -> Terms:
    """An expression as a sum of multiples of states, and of results of operations where it is not linear."""
    found, _ = _linear_part(expression, [_symbol(name) for name in states], line, what)
    if found is not None:
        return Terms(found.constant, dict(enumerate(found.coefficients)))
    try:
        return right_sides.terms(expression)
    except Impossible as error:
        reason, instead = error.args
        raise _Stop(line, f"{what} {reason}", f"{instead}, or {_CLOCK}") from None


# ---- Groups ----------------------------------------------------------------------------------------------------------


class _Texts:
    """The texts of one group with subexpressions replaced.

    Values are those of all kinds of neurons in every piece of the run (`timed_arrays.pieces`), piece after piece.

    Attributes:
        rows: R, how many these are.
        kind: of each neuron; neurons of one kind have the same parameters.
    """

    def __init__(self, group: Group, states: tuple[str, ...], starts: np.ndarray) -> None:
        self._group, self.states, self._starts = group, states, starts
        constants = {k: np.asarray(v) for k, v in group.values.items() if k not in states}
        each = [v.astype(np.float64) for v in constants.values() if v.size > 1]
        self._first, self.kind = _distinct(np.stack([np.zeros(group.size), *each], axis=1))
        self._constants = {k: v[self._first] if v.size > 1 else v for k, v in constants.items()}
        self._shape = len(starts), len(self._first)
        self.rows = len(starts) * len(self._first)
        self._parts = {
            name: _parsed(text, f"{name} = {text}", group.functions, group.arrays)
            for name, text in group.subexpressions.items()
        }

    def parsed(self, text: str, line: str) -> sympy.Expr:
        expression = _parsed(text, line, self._group.functions, self._group.arrays)
        for _ in range(len(self._parts) + 1):
            found = {s: self._parts[str(s)] for s in expression.free_symbols if str(s) in self._parts}
            if not found:
                break
            expression = expression.subs(found)
        return expression

    def affine(self, expression: sympy.Expr, line: str, what: str) -> tuple[np.ndarray, np.ndarray]:
        """Coefficients [R, n] and constant [R] of an expression."""
        affine = _affine(expression, self.states, line, what)
        coefficients = [self.value(c, line) for c in affine.coefficients]
        return np.stack(coefficients, axis=1), self.value(affine.constant, line)

    def columns(self, terms: Terms, line: str) -> dict[int, np.ndarray]:
        """Constant and coefficients [R], by their columns in a sum of multiples of ``(x, 1, z)``."""
        n = len(self.states)
        found = {k + (k >= n): self.value(c, line) for k, c in terms.multiples.items()}
        return {n: self.value(terms.constant, line), **found}

    def value(self, expression: sympy.Expr, line: str) -> np.ndarray:
        """Of an expression [R]."""
        timed = _timed_values(expression, line, self._group.arrays, self._starts[:, None], self._column)
        values = {**self._constants, **timed}
        value = np.broadcast_to(_value(expression, line, values), self._shape).ravel()
        if not np.all(np.isfinite(value)):
            k = int(np.argmin(np.isfinite(value)))
            names = sorted(str(x) for x in expression.free_symbols)
            here = {name: float(np.broadcast_to(values[name], self._shape).flat[k]) for name in names}
            at = ", ".join(f"{name} = {x:g}" for name, x in _suspects(here).items())
            raise _Stop(
                line,
                f"{expression} is {value[k]} in neuron {self.neuron(k)} ({at})",
                "give its parameters finite values, time constants > 0",
            )
        return value

    def neuron(self, row: int) -> int:
        """The first neuron of the kind of a row."""
        return int(self._first[row % len(self._first)])

    def _column(self, text: str) -> np.ndarray:
        return _value(self.parsed(text, text), text, self._constants)


def _suspects(values: Mapping[str, float]) -> dict[str, float]:
    """The values that make an expression infinite: zeros and those that are not finite, or else all."""
    return {name: x for name, x in values.items() if x == 0 or not np.isfinite(x)} or dict(values)


def _rule(group: Group, states: tuple[str, ...], starts: np.ndarray) -> EquationNeuron:
    """The neurons of a group, with the parameters that they have from each of ``starts`` on."""
    n = len(states)
    names = _names(group.threshold or "")
    if "dt" in names and any(group.functions.get(name) for name in names):
        raise _Stop(f"threshold {group.threshold!r}", "it fires by chance in every time step", "use a PoissonGroup")
    if n == 0:
        raise _Stop("", "it fires, but has no state variable", "give it an equation, or use a SpikeGeneratorGroup")
    if n > MOST_STATES:
        raise _Stop("", f"it has {n} state variables ({', '.join(states)}); at most {MOST_STATES} are possible", _CLOCK)
    for name in states:
        if name not in group.equations and name not in group.parameters:
            raise _Stop(
                name, "spikes change what is neither a state variable nor a parameter", "add an equation or a parameter"
            )
    texts = _Texts(group, states, starts)
    if len(starts) > 1 and texts.rows > MOST_VALUES:
        raise _Stop(
            ", ".join(sorted(group.arrays)),
            f"{len(starts)} values in this run for {texts.kind.max() + 1} different neurons are {texts.rows} sets of "
            f"parameters, more than {MOST_VALUES}",
            f"split it into {-(-texts.rows // MOST_VALUES)} runs or more, which give the same spikes",
        )
    right_sides = RightSides([_symbol(name) for name in states])
    slopes: list[dict[int, np.ndarray]] = []
    sums: list[dict[int, np.ndarray]] = []
    matrix = np.zeros((texts.rows, n, n))
    for k, (name, text) in enumerate(group.equations.items()):
        line = f"d{name}/dt = {text}"
        terms = _terms(texts.parsed(text, line), right_sides, states, line, f"d{name}/dt")
        slopes.append(texts.columns(terms, line))
        sums += [texts.columns(one, line) for one in right_sides.sums[len(sums) :]]
        for q in range(n):
            matrix[:, k, q] = slopes[k].get(q, 0.0)
        if any(q >= n for q in terms.multiples):
            continue
        grows = matrix[:, k, k] > 0
        if np.any(grows) and not np.any(matrix[:, k, [q for q in range(n) if q != k]]):
            bad = int(np.argmax(grows))
            raise _Stop(
                line,
                f"{name} grows without bound (rate {matrix[bad, k, k]:.6g} per second in neuron {texts.neuron(bad)})",
                "give it a positive time constant",
            )
    rates = np.sqrt(np.abs(matrix * matrix.transpose(0, 2, 1)))  # does not depend on the units of the variables
    if np.any(rates > FASTEST):
        bad, k = (int(found[0]) for found in np.nonzero(rates > FASTEST)[:2])
        name = states[k]
        raise _Stop(
            f"d{name}/dt = {group.equations[name]}",
            f"{name} changes at a rate of {rates[bad, k].max():.6g} per second in neuron {texts.neuron(bad)}, faster "
            "than float64 resolves times",
            f"give it a time constant of {1 / FASTEST:g} s or more",
        )
    width = n + 1 + len(right_sides.operations)
    right, inner = np.zeros((texts.rows, n, width)), np.zeros((texts.rows, len(sums), width))
    for table, rows_of in ((right, slopes), (inner, sums)):
        for k, columns_of in enumerate(rows_of):
            for column, values in columns_of.items():
                table[:, k, column] = values
    row, level, strict = np.zeros((texts.rows, n)), np.full(texts.rows, np.inf), True
    if group.threshold is not None:
        row, level, strict = _threshold(group, texts)
    seconds, stop = _refractory(group, texts)
    rows = [
        right.reshape(texts.rows, -1),
        inner.reshape(texts.rows, -1),
        row,
        level[:, None],
        _reset(group, texts),
        seconds[:, None],
        stop.row,
        stop.level[:, None],
    ]
    columns = np.concatenate(rows, axis=1)
    first, which = _distinct(columns)
    system = which.reshape(len(starts), -1)
    cuts = np.cumsum([n * width, len(sums) * width, n, 1, n * (n + 1), 1, n])
    a, b, c, theta, reset, dead, stop_row, stop_level = np.split(columns[first], cuts, axis=1)
    a, b = a.reshape(len(first), n, width), b.reshape(len(first), len(sums), width)
    try:
        return EquationNeuron(
            systems=Systems(
                matrix=a[:, :, :n],
                offset=a[:, :, n],
                row=c,
                level=theta[:, 0],
                reset=reset.reshape(-1, n, n + 1),
                refractory=dead[:, 0],
                product=a[:, :, n + 1 :],
                sums=b,
                refractory_row=stop_row,
                refractory_level=stop_level[:, 0],
            ),
            system=system[0, texts.kind],
            changes=Changes(starts[1:], system[1:], texts.kind),
            states=states,
            strict=strict,
            refractory_strict=stop.strict,
            held=tuple(name in group.unless_refractory for name in states),
            operations=tuple(right_sides.operations),
        )
    except InputError as error:
        raise _Stop("", str(error), _CLOCK) from None


def _distinct(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first of every distinct row, by the values from left to right, and which of these each row is: int64."""
    which = np.zeros(len(rows), np.int64)
    for column in rows.T:
        if np.any(column != column[0]):
            _, value = np.unique(column, return_inverse=True)
            _, which = np.unique(which * len(rows) + value, return_inverse=True)
    return np.unique(which, return_index=True)[1], which


class _Condition(NamedTuple):
    """``row . x > level``, or ``>=``.

    Attributes:
        row: weights of the states [R, n].
        level: inf where conditions of parameters are not fulfilled [R].
        strict: whether it is ``>``.
    """

    row: np.ndarray
    level: np.ndarray
    strict: bool


def _threshold(group: Group, texts: _Texts) -> _Condition:
    """The condition of the threshold."""
    assert group.threshold is not None
    line = f"threshold {group.threshold!r}"
    instead = "compare a variable that has an equation or is changed by spikes"
    return _condition(texts.parsed(group.threshold, line), texts, line, instead)


def _condition(expression: sympy.Expr, texts: _Texts, line: str, instead: str) -> _Condition:
    """A condition of states; ``instead`` is what a refusal recommends if there are none in it."""
    states = {_symbol(name) for name in texts.states}
    parts = sympy.And.make_args(expression)
    fixed = [part for part in parts if not part.free_symbols & states]
    condition = sympy.And(*(part for part in parts if part not in fixed))
    if condition == sympy.true:
        raise _Stop(line, "it does not depend on a state variable", instead)
    if not isinstance(condition, sympy.core.relational.Relational) or isinstance(condition, sympy.Eq | sympy.Ne):
        instead = "write it as 'v > expression', and conditions of parameters behind 'and'"
        raise _Stop(line, "it is not one comparison of states with >, >=, < or <=", instead)
    above = condition.lhs - condition.rhs
    if condition.rel_op in ("<", "<="):
        above = -above
    row, constant = texts.affine(above, line, "the condition")
    silent = ~np.any(row, axis=1)
    if np.any(silent):
        bad = texts.neuron(int(np.argmax(silent)))
        raise _Stop(line, f"it does not depend on a state variable in neuron {bad}", _CLOCK)
    possible = np.all([texts.value(part, line).astype(bool) for part in fixed], axis=0)
    return _Condition(row, np.where(possible, -constant, np.inf), condition.rel_op in (">", "<"))


def _reset(group: Group, texts: _Texts) -> np.ndarray:
    """A spike turns the states x into this times (x, 1): [R, n (n + 1)]."""
    states, n = texts.states, len(texts.states)
    after: dict[sympy.Symbol, sympy.Expr] = {_symbol(name): _symbol(name) for name in states}
    lines = {name: "" for name in states}
    for name, text, line in _statements(group.reset or ""):
        shown = f"reset {line!r}"
        after[_symbol(name)] = texts.parsed(text, shown).xreplace(after)
        lines[name] = shown
    out = np.zeros((texts.rows, n, n + 1))
    for k, name in enumerate(states):
        out[:, k, :n], out[:, k, n] = texts.affine(after[_symbol(name)], lines[name], f"the reset of {name}")
    return out.reshape(texts.rows, -1)


def _refractory(group: Group, texts: _Texts) -> tuple[np.ndarray, _Condition]:
    """Seconds [R], inf for a condition; this condition, with zeros for a time."""
    found = group.refractory
    none = _Condition(np.zeros((texts.rows, len(texts.states))), np.zeros(texts.rows), True)
    if found is None:
        return np.zeros(texts.rows), none
    line = f"refractory {found!r}" if isinstance(found, str) else "refractory"
    if isinstance(found, str):
        expression = texts.parsed(found, line)
        if group.refractory_holds:
            row, level, strict = _condition(expression, texts, line, "give a time, or a condition of a state variable")
            lasts = level < np.inf
            condition = _Condition(np.where(lasts[:, None], row, 0.0), np.where(lasts, level, 0.0), strict)
            return np.where(lasts, np.inf, 0.0), condition
        used = sorted(str(s) for s in expression.free_symbols if str(s) in texts.states)
        if used:
            raise _Stop(
                line, f"it depends on {used[0]}, which changes during a run", "give a time that does not change"
            )
        seconds = texts.value(expression, line)
    else:
        seconds = np.full(texts.rows, found)
    if not np.all(seconds >= 0) or not np.all(np.isfinite(seconds)):
        raise _Stop(line, f"it is {seconds[np.argmin(seconds >= 0)]:g} s", "give a time >= 0")
    return seconds, none


# ---- Synapses --------------------------------------------------------------------------------------------------------


def _jumps(pathway: Pathway) -> list[tuple[str, np.ndarray]]:
    """What a spike adds through every synapse [K], by variable of the target."""
    out = []
    own: dict[sympy.Symbol, sympy.Expr] = {}
    for name, text, line in _statements(pathway.code):
        if name in pathway.own_names:
            own[_symbol(name)] = _parsed(text, line, pathway.functions).xreplace(own)
            continue
        if name not in pathway.variables:
            raise _Stop(
                line,
                f"{name} is not a variable of the target {pathway.target!r} (plasticity, or a change of the source)",
                f"add a value to a variable of the target, or {_CLOCK}",
            )
        after = _parsed(text, line, pathway.functions).xreplace(own)
        change = after - _symbol(name)
        if _symbol(name) in change.free_symbols:
            change = expanded(change)
        used = {str(s) for s in change.free_symbols if str(s) in pathway.variables and str(s) not in pathway.values}
        if used or _symbol(name) in change.free_symbols:
            sets = _symbol(name) not in after.free_symbols
            what = "it sets the variable" if sets else f"what it adds depends on {', '.join(sorted(used | {name}))}"
            instead = f"write '{name} += w' with a value that does not change during a run, or {_CLOCK}"
            raise _Stop(line, what, instead)
        value = np.broadcast_to(_value(change, line, pathway.values), len(pathway.i))
        if not np.all(np.isfinite(value)):
            k = int(np.argmin(np.isfinite(value)))
            raise _Stop(line, f"synapse {k} adds {value[k]}", "give it a finite weight")
        out.append((pathway.variables[name], value))
    _check_delays(pathway)
    return out


def _check_delays(pathway: Pathway) -> None:
    seconds = np.asarray(pathway.seconds)
    if not np.all(seconds >= 0) or not np.all(np.isfinite(seconds)):
        raise _Stop("delay", f"it is {np.ravel(seconds)[np.argmin(np.ravel(seconds) >= 0)]:g} s", "give a time >= 0")


def assigned(code: str) -> list[str]:
    """The names that statements assign.

    Raises:
        Refused: for what is no list of assignments.
    """
    try:
        return [name for name, _, _ in _statements(code)]
    except _Stop as stop:
        raise Refused([Refusal("statements", *stop.args)]) from None


def _program(pathway: Pathway, plastic: Plastic, columns: Columns) -> ProgramBuilder:
    """The statements of a pathway, after the solution of the equations of its synapses."""
    builder = ProgramBuilder(columns, pathway.values, plastic.subexpressions)
    if plastic.equations:
        since = builder.minus(builder.time(), builder.expression("lastupdate"))
        solved = {name: _solved(pathway, plastic, builder, name, since) for name in plastic.equations}
        for name, register in solved.items():
            builder.set(name, register)
    for name, text, line in _statements(pathway.code):
        if name in pathway.variables:
            builder.add_to_neuron(
                pathway.end[name], pathway.variables[name], _computed(pathway, builder, _added(name, text, line), line)
            )
        elif name in plastic.variables or name in pathway.own_names:
            builder.set(name, _computed(pathway, builder, text, line))
        else:
            what = f"{name} is no variable that has one value per synapse, or per neuron of a NeuronGroup"
            raise _Stop(line, what, f"declare it as ': 1', or {_CLOCK}")
    if plastic.equations:
        builder.set("lastupdate", builder.time())
    return builder


def _computed(pathway: Pathway, builder: ProgramBuilder, text: str, line: str) -> int:
    """The register that has the value of an expression in statements."""
    _check_names(text, line, pathway.functions, ("t", "lastupdate"))
    for name in _names(text):
        if name in pathway.variables and name not in pathway.values:
            state = f"{pathway.variables[name]} of {_end(pathway, name)!r}"
            instead = f"use variables of the synapse, or {_CLOCK}"
            raise _Stop(line, f"it depends on {state}, which changes during a run", instead)
    try:
        return builder.expression(text)
    except CannotCompute as error:
        raise _Stop(line, f"it cannot be computed ({error})", _CLOCK) from None


def _end(pathway: Pathway, name: str) -> str:
    assert pathway.plastic is not None
    return pathway.plastic.ends[pathway.end[name]][0]


def _added(name: str, text: str, line: str) -> str:
    """What a statement ``name = text`` adds to a variable of a neuron."""
    tree = ast.parse(text, mode="eval").body
    if isinstance(tree, ast.BinOp) and isinstance(tree.left, ast.Name) and tree.left.id == name:
        if isinstance(tree.op, ast.Add):
            return ast.unparse(tree.right)
        if isinstance(tree.op, ast.Sub):
            return f"-({ast.unparse(tree.right)})"
    raise _Stop(line, f"it does not add to {name}", f"write '{name} += w', or {_CLOCK}")


def _solved(pathway: Pathway, plastic: Plastic, builder: ProgramBuilder, name: str, since: int) -> int:
    """The register that has a variable with an equation, after the time in the register ``since``."""
    line = f"d{name}/dt = {plastic.equations[name]}"
    expression = _parsed(plastic.equations[name], line, pathway.functions)
    inside = {_symbol(k): _parsed(text, line, pathway.functions) for k, text in plastic.subexpressions.items()}
    while expression.free_symbols & set(inside):
        expression = expression.subs(inside)
    states = list(plastic.equations)
    coefficients, constant = _affine(expression, states, line, f"d{name}/dt")
    for other, coefficient in zip(states, coefficients, strict=True):
        if other != name and coefficient != 0:
            raise _Stop(
                line, f"it depends on {other}, which changes too", f"write equations without {other}, or {_CLOCK}"
            )
    registers = []
    for what, part in (("rate", coefficients[states.index(name)]), ("drive", constant)):
        if {str(s) for s in part.free_symbols} & set(plastic.variables):
            registers.append(_computed(pathway, builder, _text(part), line))
            continue
        value = _value(part, line, pathway.values)
        if not np.all(np.isfinite(value)):
            bad = int(np.argmin(np.isfinite(np.ravel(value))))
            what = f"{part} is {np.ravel(value)[bad]} in synapse {bad}"
            raise _Stop(line, what, "give its parameters finite values, time constants > 0")
        registers.append(builder.constant(f"{what} of {name}", value))
    return builder.follow(builder.expression(name), registers[0], registers[1], since)


def _text(expression: sympy.Expr) -> str:
    """An expression as Brian2 writes it, with all digits of its numbers."""
    from brian2.parsing.sympytools import sympy_to_str

    digits = {x: sympy.Symbol(f"({float(x)!r})") for x in expression.atoms(sympy.Float)}
    return str(sympy_to_str(expression.xreplace(digits)))


def _plastic_synapses(
    programs: Sequence[tuple[Pathway, ProgramBuilder]],
    columns: Mapping[Plastic, Columns],
    states: Mapping[str, tuple[str, ...]],
    first: Mapping[str, int],
    size_of: Mapping[str, int],
    inputs: int,
) -> tuple[PlasticSynapses, ...]:
    """The programs of all objects, with numbers instead of names."""
    pathways: dict[Plastic, list[PlasticPathway]] = {plastic: [] for plastic in columns}
    for order, (pathway, builder) in enumerate(sorted(programs, key=lambda pair: pair[0].order)):
        plastic = pathway.plastic
        assert plastic is not None
        outside = pathway.source in first
        ports = [states[plastic.ends[end][0]].index(variable) for end, variable in builder.entered]
        code, registers = builder.program(ports)
        pathways[plastic].append(
            PlasticPathway(
                name=pathway.order[1],
                source=SOURCES if outside else pathway.source,
                source_size=max(inputs, 1) if outside else size_of[pathway.source],
                neuron=pathway.i + first[pathway.source] if outside else pathway.i,
                seconds=np.broadcast_to(np.asarray(pathway.seconds, dtype=np.float64), len(pathway.i)),
                order=order,
                code=code,
                registers=registers,
            )
        )
    return tuple(
        PlasticSynapses(
            name=plastic.name,
            size=len(plastic.ends[0][1]),
            variables=plastic.variables,
            constants=columns[plastic].constants,
            ends=plastic.ends,
            pathways=tuple(found),
        )
        for plastic, found in pathways.items()
    )


def _changing_values(
    pathways: Sequence[Pathway], states: Mapping[str, tuple[str, ...]]
) -> list[tuple[str, str, str, str]]:
    """Statements that read a parameter which spikes change."""
    out = []
    for pathway in pathways:
        equations = pathway.plastic.equations if pathway.plastic is not None else {}
        lines = [(name, text, f"d{name}/dt = {text}") for name, text in equations.items()]
        for name, text, line in [*lines, *_statements(pathway.code)]:
            for used in _names(text):
                changing = any(variable in states.get(group, ()) for group, variable in pathway.reads.get(used, ()))
                if used != name and changing:
                    reason = f"what it adds depends on {used}, which spikes change"
                    out.append((pathway.name, line, reason, f"add a constant value, or {_CLOCK}"))
    return out
