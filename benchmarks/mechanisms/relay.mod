COMMENT
Sends on what it receives: a pixel of the camera.
ENDCOMMENT

NEURON {
    ARTIFICIAL_CELL Relay
}

NET_RECEIVE (w) {
    net_event(t)
}
