"""What processes of pools run in tests of the deep experiment; nothing here imports torch."""

import os
import signal
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from mtt_brian.workers import in_workers, start_worker


def train_seed(setting, seed, epochs, ends):
    """Leaves a file; the process of seed 1 is killed, as the system does it for lack of memory."""
    if seed == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.5)
    (setting.folder / f"seed{seed}").write_text("")


def run_job(job, test, engine):
    """Ends at once; that of recording 0 fails, that of recording 4 is killed, that of recording 8 is slow."""
    if job.start == 8:
        time.sleep(600)
    if job.start == 0:
        raise ValueError("of the first job")
    if job.start == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"start": job.start, "pid": os.getpid()}


def note_and_sleep(place, _=0):
    """Leaves the number of its process in a file, and waits."""
    Path(place).write_text(str(os.getpid()))
    time.sleep(600)


def sleep_in_a_pool(place):
    """`note_and_sleep` in a pool of multiprocessing."""
    with ProcessPoolExecutor(1, get_context("spawn"), initializer=start_worker) as pool:
        pool.submit(note_and_sleep, place).result()


def sleep_in_workers(place):
    """The same in processes of joblib."""
    list(in_workers(partial(note_and_sleep, place), range(2), workers=2))
