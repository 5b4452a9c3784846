"""The simulated event camera."""

from mtt_brian.events.camera.camera import Camera

__all__ = ["Camera"]
