"""Prepares steps ahead in other processes: batches, and all that is said of them."""

from __future__ import annotations

import resource
import signal
from collections.abc import Generator, Iterator, Sequence

import torch
from torch.utils.data import DataLoader, Dataset

from xdecoder_rt.errors import XDecoderError, require
from xdecoder_rt.training.dataset import Example, TrainingSet, collate
from xdecoder_rt.training.sampler import SampleKey
from xdecoder_rt.training.step import Step, StepMaker

PREFETCH = 4


class _Steps(Dataset["Step | XDecoderError"]):
    """Whole steps by the keys of their samples.

    An error of ours is returned, not raised: PyTorch would bring it across the process border as
    one text with a traceback in it.
    """

    def __init__(self, examples: TrainingSet, maker: StepMaker) -> None:
        self.examples = examples
        self.maker = maker

    def __getitem__(self, keys: Sequence[SampleKey]) -> Step | XDecoderError:
        """Read, augment and stack the examples of one step, and write its texts."""
        try:
            examples: list[Example] = [self.examples[key] for key in keys]
        except XDecoderError as error:
            return error
        return self.maker.make(collate(examples), keys[0].position)


def _initialise_worker(_: int) -> None:
    """Leave both CPU time and signals to the training process.

    Ctrl-C and many schedulers signal the whole group; the workers must live until the training
    process has finished its step, and end when it tells them to.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    torch.set_num_threads(1)
    require("cv2", "train").setNumThreads(0)


def _allow_open_files() -> None:
    """Raise this process's limit of open files: every tensor that a worker hands over is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def load_steps(
    examples: TrainingSet,
    maker: StepMaker,
    keys: Iterator[list[SampleKey]],
    workers: int,
    pin_memory: bool = False,
) -> Generator[Step]:
    """Steps in the order of their keys.

    Args:
        examples: where samples come from.
        maker: writes what is said of them.
        keys: the samples of each step.
        workers: processes that read ahead; 0 reads in this one.
        pin_memory: whether tensors are put into page-locked memory, for a GPU.

    Raises:
        DatasetError: a file is missing or broken.
    """
    if workers:
        _allow_open_files()
    # A generator of its own: the loader draws a seed, which must not move the model's generator.
    loader = DataLoader(
        _Steps(examples, maker),
        batch_size=None,
        sampler=keys,
        num_workers=workers,
        prefetch_factor=PREFETCH if workers else None,
        worker_init_fn=_initialise_worker,
        pin_memory=pin_memory,
        generator=torch.Generator(),
    )
    for step in loader:
        if isinstance(step, XDecoderError):
            raise step
        yield step
