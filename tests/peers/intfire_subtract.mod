COMMENT
NEURON's IntFire1 with reset by subtraction and without a refractory period:
tau dm/dt = -m; an event adds its weight; m >= 1 fires and loses 1.
ENDCOMMENT

NEURON {
    ARTIFICIAL_CELL IntFireSubtract
    RANGE tau, m
}

PARAMETER {
    tau = 10 (ms) <1e-9, 1e9>
}

ASSIGNED {
    m
    last (ms)
}

INITIAL {
    m = 0
    last = 0
}

NET_RECEIVE (w) {
    m = m * exp(-(t - last) / tau) + w
    last = t
    if (m >= 1) {
        m = m - 1
        net_event(t)
    }
}
