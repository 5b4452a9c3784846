"""Mixed time-step training: samplers, settings, the training loop and its checkpoints."""

from mtt_brian.files import replacing
from mtt_brian.mtt import checkpoint, config
from mtt_brian.mtt.build import build_model
from mtt_brian.mtt.checkpoint import Checkpoint, load_model
from mtt_brian.mtt.config import TrainConfig
from mtt_brian.mtt.frames import FrameSet, bin_recordings, predict
from mtt_brian.mtt.loop import Diverged, fit, train_iteration
from mtt_brian.mtt.samplers import MTT, NMT, SDT, Sampler

__all__ = [
    "MTT",
    "NMT",
    "SDT",
    "Checkpoint",
    "Diverged",
    "FrameSet",
    "Sampler",
    "TrainConfig",
    "bin_recordings",
    "build_model",
    "checkpoint",
    "config",
    "fit",
    "load_model",
    "predict",
    "replacing",
    "train_iteration",
]
