"""A circuit as flat numpy arrays, which the exact engines read.

`arrays` (the whole circuit) is built from `connectivity` (one connection), `populations` (one population) and `rules`
(what the engines need of each neuron rule). `linear_rules` and `linear_sets` prepare the rules that are run as linear
systems.
"""
