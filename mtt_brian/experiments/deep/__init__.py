"""The paper's deep event-driven experiment on simulated recordings, see `studies/deep.py`."""
