"""Mixed time-step training: samplers, settings, the training loop and its checkpoints."""

from mtt_brian.errors import Diverged
from mtt_brian.mtt import checkpoint, config
from mtt_brian.mtt.augment import Augmentation
from mtt_brian.mtt.build import build_model
from mtt_brian.mtt.checkpoint import Checkpoint, load_model
from mtt_brian.mtt.config import TrainConfig
from mtt_brian.mtt.frame_dataset import Data, FrameSet, load_frames
from mtt_brian.mtt.inference import predict, predict_each
from mtt_brian.mtt.iteration import StepOptions, train_iteration
from mtt_brian.mtt.loop import Trainer, fit
from mtt_brian.mtt.loss import TET, Loss, cross_entropy
from mtt_brian.mtt.samplers import MTT, NMT, SDT, Sampler

__all__ = [
    "MTT",
    "NMT",
    "SDT",
    "TET",
    "Augmentation",
    "Checkpoint",
    "Data",
    "Diverged",
    "FrameSet",
    "Loss",
    "Sampler",
    "StepOptions",
    "TrainConfig",
    "Trainer",
    "build_model",
    "checkpoint",
    "config",
    "cross_entropy",
    "fit",
    "load_frames",
    "load_model",
    "predict",
    "predict_each",
    "train_iteration",
]


def __dir__() -> list[str]:
    return sorted(__all__)
