"""Reads batches ahead in other processes."""

from __future__ import annotations

import signal
from collections.abc import Generator, Iterator, Sequence

import torch
from torch.utils.data import DataLoader, Dataset

from xdecoder_rt.errors import XDecoderError, require
from xdecoder_rt.training.dataset import Batch, Example, TrainingSet, collate
from xdecoder_rt.training.sampler import SampleKey

PREFETCH = 4


class _Batches(Dataset["Batch | XDecoderError"]):
    """Whole batches by their keys.

    An error of ours is returned, not raised: PyTorch would bring it across the process border as
    one text with a traceback in it.
    """

    def __init__(self, examples: TrainingSet) -> None:
        self.examples = examples

    def __getitem__(self, keys: Sequence[SampleKey]) -> Batch | XDecoderError:
        """Read, augment and stack the examples of one batch."""
        try:
            examples: list[Example] = [self.examples[key] for key in keys]
        except XDecoderError as error:
            return error
        return collate(examples)


def _initialise_worker(_: int) -> None:
    """Leave both CPU time and signals to the training process.

    Ctrl-C and many schedulers signal the whole group; the workers must live until the training
    process has finished its step, and end when it tells them to.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    torch.set_num_threads(1)
    require("cv2", "train").setNumThreads(0)


def load_batches(
    examples: TrainingSet, keys: Iterator[list[SampleKey]], workers: int, pin_memory: bool = False
) -> Generator[Batch]:
    """Batches in the order of their keys.

    Args:
        examples: where samples come from.
        keys: the samples of each batch.
        workers: processes that read ahead; 0 reads in this one.
        pin_memory: whether batches are put into page-locked memory, for a GPU.

    Raises:
        DatasetError: a file is missing or broken.
    """
    # A generator of its own: the loader draws a seed, which must not move the model's generator.
    loader = DataLoader(
        _Batches(examples),
        batch_size=None,
        sampler=keys,
        num_workers=workers,
        prefetch_factor=PREFETCH if workers else None,
        worker_init_fn=_initialise_worker,
        pin_memory=pin_memory,
        generator=torch.Generator(),
    )
    for batch in loader:
        if isinstance(batch, XDecoderError):
            raise batch
        yield batch
