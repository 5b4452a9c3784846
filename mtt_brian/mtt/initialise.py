"""Where a training starts: from fresh weights, or from those of another run, with or without biases."""

from __future__ import annotations

from mtt_brian.errors import InputError
from mtt_brian.mtt import checkpoint
from mtt_brian.mtt.config import TrainConfig
from mtt_brian.snn import Staged, norm
from mtt_brian.text import one_line


def prepare(model: Staged, config: TrainConfig, *, resumed: bool) -> None:
    """Bring a fresh network to where its training starts.

    With ``config.init`` it gets the final weights of that run. In the phase "bias-removal" it loses means and shifts of
    its norms and all other biases, and the norms are locked: what is left of them is a factor, which the export
    multiplies into the weights (MTT paper, event-driven experiments).

    Args:
        model: of `build_model`; changed in place.
        config: the settings.
        resumed: whether the weights come from a checkpoint of this run in any case, so that ``init`` is not needed.

    Raises:
        InputError: if ``init`` is no run, its weights do not fit the model, or there is no bias to remove.
    """
    if config.init is not None and not resumed:
        try:
            model.load_state_dict(checkpoint.load(config.init).final_weights)
        except RuntimeError as error:
            raise InputError(
                f"init: the weights of {config.init} do not fit {config.model} ({one_line(error)})"
            ) from None
    if config.phase == "bias-removal":
        if not norm.has_norms(model) and all(getattr(module, "bias", None) is None for module in model.modules()):
            raise InputError(f"phase = 'bias-removal': {config.model} has neither batch norms nor biases; train it on")
        norm.remove_biases(model)
        norm.lock(model)
