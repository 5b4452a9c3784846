COMMENT
The neuron of the workloads, as close as NEURON's event queue allows: no leak, reset by subtraction.
An event adds its weight at once; the threshold is tested after every single event, so that at most one
spike leaves per arrival ("many" spikes per instant do not exist here).
ENDCOMMENT

NEURON {
    ARTIFICIAL_CELL IntegrateAndFire
    RANGE m
}

ASSIGNED {
    m
}

INITIAL {
    m = 0
}

NET_RECEIVE (w) {
    m = m + w
    if (m >= 1) {
        m = m - 1
        net_event(t)
    }
}
