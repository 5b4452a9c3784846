"""An event-camera simulator. Its recordings must be called simulated wherever they appear.

A still image is moved along a closed path in front of a sensor; every pixel sends an event when the logarithm of its
intensity has changed by its threshold since its last event. The path is that of N-MNIST's saccades, or any other of
straight pieces, each with the speed profile of a saccade or at constant speed.

Sources: the pixel is the one of Lichtsteiner, Posch, Delbruck, "A 128x128 120 dB 15 us latency asynchronous temporal
contrast vision sensor", IEEE JSSC 43(2), 2008; thresholds differ from pixel to pixel and crossings are interpolated
between samples as in Rebecq, Gehrig, Scaramuzza, "ESIM: an open event camera simulator", CoRL 2018; the saccades are
those of Orchard et al., Front. Neurosci. 9:437, 2015, with the speed profile of smooth (minimum-jerk) movements, which
the event rate of the real recordings follows.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np

from mtt_brian.errors import InputError, check_array, check_flag, check_list, check_number, check_whole
from mtt_brian.events.camera.projection import Projection, projection
from mtt_brian.events.recording import EVENT_DTYPE, SensorSize
from mtt_brian.progress import progress_bar
from mtt_brian.text import shown

if TYPE_CHECKING:
    from mtt_brian.events.camera.pixel_kernel import Pixels

#: Part of every cache key: increase it when the same parameters give other events.
SIMULATOR_VERSION = 1

#: The largest value of a parameter: coordinates of events have 16 bits.
_MOST: dict[str, int] = {
    "height": 32767,
    "width": 32767,
    "image_pixels": 10**6,
    "threshold_on": 10**9,
    "threshold_off": 10**9,
    "mismatch": 1000,
    "dark": 10**9,
    "refractory_us": 10**9,
    "noise_hz": 10**9,
    "sample_us": 10**9,
    "seed": 2**64 - 1,
}
_WHOLE = ("height", "width", "sample_us")
#: Numbers that one recording is made from, 8 bytes each, and events of one pixel between black and white.
_MOST_SAMPLES, _MOST_CROSSINGS = 200_000_000, 100_000

#: Lowest threshold of a pixel, as a fraction of the mean: near zero the number of events diverges.
_LEAST_THRESHOLD = 0.2


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A simulated event camera and its view of still images.

    The defaults make recordings of MNIST's 28x28 images that resemble the real N-MNIST ones of the same images. They
    were fitted to 80 of those; benchmarks/simulated_camera.py shows the fit to others.

    Attributes:
        height, width: pixels of the sensor.
        image_pixels: sensor pixels that the longer side of the image covers.
        corners: (x, y) of the image's centre at the start of each movement, in sensor pixels right of and below the
            sensor's centre; the last movement leads back to the first corner.
        saccades_us: begin and end of each movement; the recording ends with the last.
        constant_speed: every movement has a constant speed, not that of a saccade, which starts and ends at rest.
        negative: the recording shows the image's negative, with ON events where it gets darker, as N-MNIST does.
        threshold_on, threshold_off: mean contrast thresholds, in natural logarithms of intensity, > 0.
        mismatch: standard deviation of the thresholds from pixel to pixel, as a fraction of their mean.
        dark: intensity of black where white is 1: bounds the contrast.
        refractory_us: an event within this time after the pixel's last one is discarded, together with its change.
        noise_hz: rate of background events per pixel, Poisson, of random polarity.
        sample_us: the log intensity is computed at these intervals and is linear in between.
        seed: of the thresholds, not of the noise.
    """

    height: int = 34
    width: int = 34
    image_pixels: float = 27.5
    corners: tuple[tuple[float, float], ...] = ((-2.8, -1.7), (-1.0, 4.2), (2.9, -1.7))
    saccades_us: tuple[tuple[int, int], ...] = ((3_000, 92_000), (98_000, 201_000), (215_000, 300_000))
    constant_speed: bool = False
    negative: bool = True
    threshold_on: float = 0.064
    threshold_off: float = 0.067
    mismatch: float = 0.1
    dark: float = 2.0
    refractory_us: int = 2_000
    noise_hz: float = 0.45
    sample_us: int = 1_000
    seed: int = 0

    def __post_init__(self) -> None:
        may_be_zero = ("mismatch", "refractory_us", "noise_hz", "seed")
        for name, most in _MOST.items():
            value = getattr(self, name)
            check_number(f"Camera.{name}", value, most)
            if not value >= 0 or (value == 0 and name not in may_be_zero):
                raise InputError(f"Camera.{name} must be {'>=' if name in may_be_zero else '>'} 0, not {value}")
            if name in _WHOLE and value != int(value):
                raise InputError(f"Camera.{name} must be a whole number, not {value}")
            if isinstance(value, np.generic):  # small integers of numpy would overflow
                object.__setattr__(self, name, value.item())
        check_whole("Camera.seed", self.seed, _MOST["seed"])
        for name in ("constant_speed", "negative"):
            check_flag(f"Camera.{name}", getattr(self, name))
        times = _pairs(self.saccades_us)
        if (
            times is None
            or np.any(times % 1)
            or np.any(np.diff(times.ravel(), prepend=0) < np.tile([0, 1], len(times)))
        ):
            raise InputError(
                "Camera.saccades_us must be pairs (begin, end) of whole numbers, in order, not"
                f" {shown(self.saccades_us)}"
            )
        corners = _pairs(self.corners)
        if corners is None or len(corners) != len(times):
            raise InputError(
                f"Camera.corners must be {len(times)} pairs (x, y), one for each of saccades_us, not"
                f" {shown(self.corners)}"
            )
        if self.duration_us % self.sample_us:
            raise InputError(f"Camera.sample_us must divide {self.duration_us}, the end, {self.sample_us} does not")
        self._check_effort()

    def _check_effort(self) -> None:
        """Refuses parameters that would need all memory or give an unbounded number of events."""
        samples = self.duration_us // self.sample_us + 1
        if samples * self.height * self.width > _MOST_SAMPLES:
            raise InputError(
                f"Camera: {samples:,} samples of {self.height} x {self.width} pixels are more than {_MOST_SAMPLES:,}:"
                " take fewer pixels or a longer Camera.sample_us"
            )
        swing = math.log1p(1 / max(self.dark, 1e-300)) / max(min(self.threshold_on, self.threshold_off), 1e-300)
        if swing > _MOST_CROSSINGS:
            raise InputError(
                f"Camera: from black to white a pixel would cross its threshold {swing:,.0f} times, more than"
                f" {_MOST_CROSSINGS:,}: raise Camera.threshold_on, Camera.threshold_off or Camera.dark"
            )
        noise = self.noise_hz * self.duration_us * 1e-6 * self.height * self.width
        if noise > _MOST_SAMPLES:
            raise InputError(f"Camera.noise_hz = {self.noise_hz:g} would add {noise:.3g} events to every recording")

    @property
    def sensor_size(self) -> SensorSize:
        """(2, H, W)."""
        return 2, self.height, self.width

    @property
    def duration_us(self) -> int:
        """Length of a recording; all its events come before."""
        return self.saccades_us[-1][1]

    @property
    def parameter_hash(self) -> str:
        """16 hexadecimal digits: the same for the same parameters and the same simulator."""
        values = {name: np.asarray(value, float).tolist() for name, value in asdict(self).items()}  # 9 is 9.0
        parameters = json.dumps({"simulator": SIMULATOR_VERSION, **values}, sort_keys=True)
        return hashlib.sha256(parameters.encode()).hexdigest()[:16]

    @cached_property
    def sample_times(self) -> np.ndarray:
        """int64 [K], microseconds, from 0 to ``duration_us``."""
        return np.arange(0, self.duration_us + 1, self.sample_us)

    @cached_property
    def path(self) -> np.ndarray:
        """Where the image's centre is at the sample times: float64 [K, 2], (x, y) pixels from the sensor's centre."""
        begin, end = np.transpose(self.saccades_us)
        saccade = np.maximum(np.searchsorted(begin, self.sample_times, side="right") - 1, 0)
        s = np.clip((self.sample_times - begin[saccade]) / (end - begin)[saccade], 0, 1)
        travelled = (s if self.constant_speed else s**3 * (10 - 15 * s + 6 * s**2))[:, None]
        corners = np.array([*self.corners, self.corners[0]])
        return corners[saccade] * (1 - travelled) + corners[saccade + 1] * travelled

    @cached_property
    def thresholds(self) -> tuple[np.ndarray, np.ndarray]:
        """Contrast thresholds of every pixel, ON and OFF: float64 [H, W] each."""
        rng = np.random.default_rng(self.seed)
        on, off = np.maximum(1 + self.mismatch * rng.standard_normal((2, self.height, self.width)), _LEAST_THRESHOLD)
        return self.threshold_on * on, self.threshold_off * off

    def log_intensity(self, image: np.ndarray) -> np.ndarray:
        """Intensities of the pixels at the sample times.

        The image is continued smoothly between its pixels by cubic B-splines (never negative, a blur of about one image
        pixel, or one sensor pixel if that is larger) and is black outside.

        Args:
            image: [h, w], intensities from 0 (black) to 1 (white).

        Returns:
            float64 [K, H, W].

        Raises:
            InputError: as `record`.
        """
        image = _checked_image(image)
        from mtt_brian.events.camera.pixel_kernel import seen  # imports numba, which is slow

        view = _view(self, *image.shape)
        return np.log(seen(view, image, float(self.dark)))[view.place]

    def record(self, image: np.ndarray, seed: int | Sequence[int] = 0) -> np.ndarray:
        """The (simulated) recording of one image.

        Args:
            image: [h, w], intensities 0..1.
            seed: of the background events.

        Returns:
            Structured array of `EVENT_DTYPE`, sorted by time, then pixel.

        Raises:
            InputError: for an image of another shape, with intensities outside 0..1 or too large for the memory, and
                for a seed that is none.
        """
        image = _checked_image(image)
        from mtt_brian.events.camera import pixel_kernel  # imports numba, which is slow

        view = _view(self, *image.shape)
        found = pixel_kernel.record(self.sample_times, view, image, float(self.dark), self._pixels)
        inside = found.t < self.duration_us
        t, pixel, p = (
            np.concatenate([field[inside], noise]) for field, noise in zip(found, self._noise(seed), strict=True)
        )
        order = pixel_kernel.order_of(t * (self.height * self.width) + pixel)
        events = np.empty(len(order), dtype=EVENT_DTYPE)
        events["t"], events["p"] = t[order], p[order]
        events["y"], events["x"] = np.divmod(pixel[order], self.width)
        return events

    def record_many(self, images: Sequence[np.ndarray] | np.ndarray, *, progress: bool = True) -> list[np.ndarray]:
        """(Simulated) recordings of ``images`` [N, h, w], each as from `record` with its number as seed."""
        images = check_list("images", images)
        bar = progress_bar(images, description="simulating the camera", unit="recordings", show=progress)
        return [self.record(image, seed) for seed, image in enumerate(bar)]

    @cached_property
    def _pixels(self) -> Pixels:
        from mtt_brian.events.camera.pixel_kernel import Pixels

        on, off = (threshold.ravel() for threshold in self.thresholds)
        return Pixels(on, off, float(self.refractory_us), -1.0 if self.negative else 1.0)

    def _noise(self, seed: int | Sequence[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Background events: t, pixel and p."""
        try:
            rng = np.random.default_rng(seed)
        except (TypeError, ValueError):
            raise InputError(
                f"the seed must be a whole number >= 0 or a list of such numbers, not {shown(seed)}"
            ) from None
        pixels = self.height * self.width
        n = rng.poisson(self.noise_hz * self.duration_us * 1e-6 * pixels) if self.noise_hz else 0
        t, pixel, p = rng.integers(self.duration_us, size=n), rng.integers(pixels, size=n), rng.integers(2, size=n)
        return t, pixel, p.astype(np.int8)


def _checked_image(image: object) -> np.ndarray:
    """An image as float64 [h, w].

    Raises:
        InputError: for another shape, and for what is no intensity.
    """
    intensities = check_array("an image", image, kinds="iufb", wanted="intensities").astype(np.float64, order="C")
    if intensities.ndim != 2 or not intensities.size:
        raise InputError(f"an image must be an array [height, width], not {intensities.shape}")
    if not (intensities.min() >= 0 and intensities.max() <= 1):
        raise InputError(f"intensities must lie in 0..1, not in {intensities.min()}..{intensities.max()}")
    return intensities


def _pairs(value: object) -> np.ndarray | None:
    """Pairs of numbers as float64 [n, 2], n >= 1; None for anything else, and for numbers beyond 1e9."""
    try:
        pairs = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    return pairs if pairs.ndim == 2 and pairs.shape[1] == 2 and len(pairs) and np.all(np.abs(pairs) < 1e9) else None


@lru_cache(maxsize=4)
def _view(camera: Camera, height: int, width: int) -> Projection:
    return projection(camera.path, (camera.height, camera.width), (height, width), camera.image_pixels)
