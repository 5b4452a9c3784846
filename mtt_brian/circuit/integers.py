"""A network with the integer arithmetic of a chip: weights, thresholds and membranes of a few bits.

As sinabs 3.1.3 configures DYNAP-CNN and Speck (``sinabs.backend.dynapcnn.discretize``): weights have 8 bits, thresholds
and membranes 16, all with a sign. For every layer there is one scale, the largest with which its weights and its
thresholds fit; they are multiplied by it and rounded to the nearest integer (halves to the even one). A membrane
saturates at its largest and smallest integer. A lower bound of the network is the chip's "low threshold". Average
pooling becomes a sum; its factor is multiplied into the weights behind it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from mtt_brian.circuit.model import Circuit, Connection, Population
from mtt_brian.circuit.operators import Conv2d, Delay, Dense, LinearOperator, Operator, Scale, Sparse
from mtt_brian.errors import InputError, check_whole
from mtt_brian.neuron import IF

#: The numbers of bits of Speck and DYNAP-CNN.
WEIGHT_BITS, MEMBRANE_BITS = 8, 16
#: Up to here float64 represents all sums of integers.
_MOST_BITS = 52


@dataclass(frozen=True)
class Integers:
    """Numbers of bits, the sign included.

    Attributes:
        bits: of weights.
        membrane_bits: of thresholds and membranes.
    """

    bits: int = WEIGHT_BITS
    membrane_bits: int = MEMBRANE_BITS

    def __post_init__(self) -> None:
        for name, value in (("bits", self.bits), ("membrane_bits", self.membrane_bits)):
            object.__setattr__(self, name, check_whole(name, value, most=_MOST_BITS, least=2))

    def of(self, circuit: Circuit) -> Circuit:
        """The same network with integers. Potentials and readouts are in these integers, too.

        A readout that sums its inputs has integer weights and no limit; ``readout_unit`` converts it to the units of
        the network.

        Raises:
            InputError: for neurons other than IF, and for biases, refractory periods and thresholds that do not fit.
        """
        layers = [_layer(c, circuit.population[c.target]) for c in circuit.connections]
        scales = {
            p.name: self._scale(p, [layer.weights for layer in layers if layer.connection.target == p.name])
            for p in circuit.populations
        }
        assumption = f"weights have {self.bits} bits, thresholds and membranes {self.membrane_bits} (integers)"
        return replace(
            circuit,
            populations=tuple(self._population(p, scales[p.name]) for p in circuit.populations),
            connections=tuple(layer.in_integers(scales[layer.connection.target]) for layer in layers),
            assumptions=(*circuit.assumptions, assumption),
            readout_unit=circuit.readout_unit * (scales[circuit.output] if circuit.sums_up else 1.0),
        )

    def _scale(self, population: Population, weights: list[np.ndarray]) -> float:
        """The largest factor with which the weights and the thresholds of a layer fit."""
        rule, name = population.rule, population.name
        if type(rule) is not IF:
            raise InputError(f"population {name!r} is a {type(rule).__name__}; integers (bits=) are for IF neurons")
        for what, value in (("a bias", rule.bias), ("a refractory period", rule.refractory)):
            if np.any(value):
                raise InputError(f"population {name!r} has {what}, which integer neurons (bits=) do not have")
        if rule.upper_bound is not None:
            raise InputError(f"population {name!r} has an upper bound already; integers (bits=) bring their own")
        found = [_fitting(np.concatenate([np.zeros(1), *weights]), self.bits)]
        if rule.threshold is not None:
            thresholds = [rule.threshold, rule.v_reset, *([] if rule.lower_bound is None else [rule.lower_bound])]
            found.append(_fitting(np.concatenate([np.ravel(value) for value in thresholds]), self.membrane_bits))
        scale = min(found)
        return 1.0 if np.isinf(scale) else scale

    def _population(self, population: Population, scale: float) -> Population:
        rule = population.rule
        if rule.threshold is None:
            return replace(population, rule=replace(rule, r=1.0))
        lowest, highest = -(2.0 ** (self.membrane_bits - 1)), 2.0 ** (self.membrane_bits - 1) - 1
        threshold = np.rint(np.multiply(rule.threshold, scale))
        if np.any(threshold < 1):
            raise InputError(
                f"population {population.name!r}: its threshold rounds to 0 at the scale {scale:g} that its weights "
                f"need in {self.bits} bits; use more bits"
            )
        v_reset = np.rint(np.multiply(rule.v_reset, scale))
        bound = lowest if rule.lower_bound is None else np.rint(np.multiply(rule.lower_bound, scale))
        for what, value in (("reset potential", v_reset), ("lower bound", bound)):
            if np.any(np.greater_equal(value, threshold)):
                raise InputError(
                    f"population {population.name!r}: its {what} and its threshold round to the same integer at the "
                    f"scale {scale:g}; use more bits"
                )
        integers = replace(rule, threshold=threshold, r=1.0, v_reset=v_reset, lower_bound=bound, upper_bound=highest)
        return replace(population, rule=integers)


@dataclass(frozen=True, eq=False)
class _Layer:
    """A connection one of whose operators has the weights, with the target's gain; the others are sums.

    Attributes:
        connection: the connection.
        at: index of that operator.
    """

    connection: Connection
    at: int

    @property
    def weights(self) -> np.ndarray:
        return _values(self.connection.operators[self.at])

    def in_integers(self, scale: float) -> Connection:
        """The connection with weights times ``scale``, rounded."""
        operators = list(self.connection.operators)
        operators[self.at] = _map(operators[self.at], lambda weight: np.rint(weight * scale))
        return replace(self.connection, operators=tuple(operators))


def _layer(connection: Connection, target: Population) -> _Layer:
    """A connection with the target's gain, and the factors of pools, in its weights."""
    gains = np.unique(np.asarray(target.rule.r, dtype=np.float64))
    if len(gains) != 1:
        raise InputError(f"r of population {target.name!r} differs from neuron to neuron; integers (bits=) need one r")
    operators: list[Operator] = list(connection.operators)
    linear = [k for k, operator in enumerate(operators) if not isinstance(operator, Delay)]
    varied = [k for k in linear if _constant(operators[k]) is None]
    if len(varied) > 1 or not linear:
        delays = [k for k, operator in enumerate(operators) if isinstance(operator, Delay)]
        if any(k < delay for delay in delays for k in linear):
            raise InputError(
                f"{connection.source!r} -> {connection.target!r}: a delay behind weights cannot be kept by integers"
            )
        front = [operators[k] for k in delays]
        shape = front[0].input_shape if front else (connection.source_size,)
        product = Sparse(sparse.csr_array(connection.matrix * gains[0]), shape, target.shape)
        return _Layer(replace(connection, operators=(*front, product)), len(front))
    at, factor = (varied or linear[-1:])[0], float(gains[0])
    for k in linear:
        if (constant := _constant(operators[k])) is not None:
            factor *= constant
            operators[k] = _map(operators[k], lambda weight: (weight != 0).astype(np.float64))
    operators[at] = _map(operators[at], lambda weight: weight * factor)
    return _Layer(replace(connection, operators=tuple(operators)), at)


def _constant(operator: Operator) -> float | None:
    """The one value of all weights that are not 0, of a pool for instance; None if there are several."""
    values = np.unique(_values(operator))
    values = values[values != 0]
    return float(values[0]) if len(values) == 1 else None


def _values(operator: Operator) -> np.ndarray:
    if isinstance(operator, Conv2d | Dense):
        return np.ravel(operator.weight)
    if isinstance(operator, Sparse):
        return np.asarray(operator.weight.data)
    assert isinstance(operator, Scale)
    return np.ravel(operator.factor)


def _map(operator: Operator, change: Callable[[np.ndarray], np.ndarray]) -> LinearOperator:
    """The operator with other weights, computed in float64; 0 stays 0."""
    if isinstance(operator, Conv2d | Dense):
        return replace(operator, weight=change(operator.weight.astype(np.float64)))
    if isinstance(operator, Sparse):
        weight = operator.weight.copy()
        weight.data = change(weight.data)
        return replace(operator, weight=weight)
    assert isinstance(operator, Scale)
    return replace(operator, factor=change(operator.factor))


def _fitting(values: np.ndarray, bits: int) -> float:
    """The largest factor with which values fit into so many bits; infinite if all are 0."""
    largest, smallest = float(values.max()), float(values.min())
    highest, lowest = 2.0 ** (bits - 1) - 1, 2.0 ** (bits - 1)
    fits = [highest / largest] if largest > 0 else []
    fits += [lowest / -smallest] if smallest < 0 else []
    return min(fits, default=np.inf)
