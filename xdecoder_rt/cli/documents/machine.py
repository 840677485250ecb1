"""The document of ``doctor``."""

from __future__ import annotations

from typing import Literal, TypedDict

from xdecoder_rt.cli.documents.common import Machine


class Processor(TypedDict):
    """The processor, and how much of it this process may use.

    Attributes:
        instruction_sets: those that matter here.
        fast_int8: whether it multiplies bytes fast.
        fast_bf16: whether it multiplies bfloat16 fast.
        cores: of the machine.
        affinity: cores that this process may run on.
        quota: of its control groups, in cores, or null.
        usable_cores: the least of these.
    """

    instruction_sets: list[str]
    fast_int8: bool
    fast_bf16: bool
    cores: int
    affinity: int
    quota: float | None
    usable_cores: int


class MachineMemory(TypedDict):
    """Memory, bytes.

    Attributes:
        limit: of its control groups, or null.
    """

    total: int | None
    available: int | None
    limit: int | None


class Gpu(TypedDict):
    """An NVIDIA GPU.

    Attributes:
        capability: compute capability.
        memory: bytes.
    """

    name: str
    capability: str
    memory: int


class Gpus(TypedDict):
    """NVIDIA GPUs and their driver.

    Attributes:
        driver: its version, or null.
        jetson_linux: its version on a Jetson, or null.
        cuda: the newest CUDA that the driver takes, or null.
        problem: why there are none though there should be, or null.
    """

    driver: str | None
    jetson_linux: str | None
    cuda: str | None
    devices: list[Gpu]
    problem: str | None


class BackendFacts(TypedDict):
    """One backend's library.

    Attributes:
        works: whether it imports; null where that was not tried.
        devices: that it can use here.
        install: the command that installs it, or null.
    """

    installed: bool
    works: bool | None
    version: str | None
    devices: list[str]
    problem: str | None
    install: str | None


class PackageFacts(TypedDict):
    """One package of an extra.

    Attributes:
        version: installed, or null.
        required: the versions that will do.
        problem: why it does not import, or null.
    """

    version: str | None
    required: str
    state: Literal["installed", "missing", "outdated"]
    problem: str | None


class ExtraFacts(TypedDict):
    """One extra.

    Attributes:
        purpose: what it is for.
        installed: whether all its packages are there and, as far as tried, import.
        install: the command that installs it, or null.
    """

    purpose: str
    installed: bool
    packages: dict[str, PackageFacts]
    install: str | None


class CacheFolder(TypedDict):
    """The folder of caches.

    Attributes:
        folder: null where the user has no home.
    """

    folder: str | None
    files: int
    bytes: int
    writable: bool
    problem: str | None


class VideoFacts(TypedDict):
    """What reads videos and cameras; null where it was not tried or is not there."""

    pyav: str | None
    opencv: str | None
    opencv_gstreamer: bool | None
    gstreamer: str | None


class RosFacts(TypedDict):
    """ROS 2.

    Attributes:
        distribution: that is sourced, or null.
        rclpy: whether it is found.
        installed: distributions under /opt/ros.
    """

    distribution: str | None
    rclpy: bool
    installed: list[str]


class Advice(TypedDict):
    """What would make more of this machine."""

    purpose: str
    command: str


class DoctorDocument(TypedDict):
    """Output of ``xdecoder-rt doctor --json``.

    Attributes:
        version: of xdecoder_rt.
        base: packages that are always needed.
        problems: what is broken, in sentences.
        advice: what to install for more.
    """

    version: str
    machine: Machine
    processor: Processor
    memory: MachineMemory
    gpus: Gpus
    backends: dict[str, BackendFacts]
    extras: dict[str, ExtraFacts]
    base: ExtraFacts
    cache: CacheFolder
    video: VideoFacts
    ros2: RosFacts
    problems: list[str]
    advice: list[Advice]
