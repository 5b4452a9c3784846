"""NIR graph -> linear operators between populations -> Brian2 objects."""

from mtt_brian.translate.circuit import Circuit, Connection, Population
from mtt_brian.translate.nir_reader import read_nir

__all__ = ["Circuit", "Connection", "Population", "read_nir"]
