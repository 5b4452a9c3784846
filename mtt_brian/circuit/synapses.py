"""The synapses of a connection, one by one, with their delays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from mtt_brian.circuit.operators import Delay, Operator


def synapses_of(
    operators: Sequence[Operator], source_size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Every synapse of a connection: source neuron, target neuron, weight, delay in seconds.

    Paths between two neurons that take the same time are one synapse. Sorted by source, so that the synapses of one
    presynaptic neuron lie side by side in memory.

    Args:
        operators: of the connection.
        source_size: neurons of its source.
    """
    by_delay = {0.0: sparse.csr_array(sparse.eye_array(source_size))}
    for operator in operators:
        if not isinstance(operator, Delay):
            by_delay = {delay: sparse.csr_array(operator.matrix() @ so_far) for delay, so_far in by_delay.items()}
            continue
        later: dict[float, sparse.csr_array] = {}
        for delay, so_far in by_delay.items():
            for seconds in np.unique(operator.seconds):
                through = sparse.csr_array(sparse.diags_array((operator.seconds == seconds).ravel().astype(float)))
                part = sparse.csr_array(through @ so_far)
                late = delay + float(seconds)
                later[late] = part + later[late] if late in later else part
        by_delay = later
    columns: list[list[np.ndarray]] = [[], [], [], []]
    for delay, matrix in by_delay.items():
        entries = matrix.tocoo()
        entries.eliminate_zeros()
        post, pre = entries.coords
        for column, values in zip(columns, (pre, post, entries.data, np.full(entries.nnz, delay)), strict=True):
            column.append(values)
    pre, post, weight, delays = (np.concatenate(column) for column in columns)
    order = np.lexsort((delays, post, pre))
    return pre[order], post[order], weight[order], delays[order]
