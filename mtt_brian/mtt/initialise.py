"""Initial weights of a training: new ones or those of another run, with or without biases."""

from __future__ import annotations

from mtt_brian.errors import InputError
from mtt_brian.mtt import checkpoint
from mtt_brian.snn import Staged, norm
from mtt_brian.text import one_line


def prepare(model: Staged, phase: str, init: str | None = None) -> None:
    """Prepares a new network for a phase of training.

    The phase "bias-removal" removes means and shifts of its norms and all other biases, and locks the norms. The
    remaining factor of a norm is multiplied into the weights at the export (MTT paper, event-driven experiments).

    Args:
        model: of `build_model`; changed in place.
        phase: "train" or "bias-removal".
        init: the run whose final weights are loaded first.

    Raises:
        InputError: if ``init`` is no run, its weights do not fit the model, or there is no bias to remove.
    """
    name = model.config.get("name", "the network")
    if init is not None:
        try:
            model.load_state_dict(checkpoint.load(init).final_weights)
        except RuntimeError as error:
            raise InputError(f"init: the weights of {init} do not fit {name} ({one_line(error)})") from None
    if phase == "bias-removal":
        if not norm.has_norms(model) and all(getattr(module, "bias", None) is None for module in model.modules()):
            raise InputError(f"phase = 'bias-removal': {name} has neither batch norms nor biases; train it on")
        norm.remove_biases(model)
        norm.lock(model)
