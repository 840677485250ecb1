"""Changes chosen by the coverage that they reach, where Atheris is installed."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from random import Random

import campaign
import parsers


def run(name: str, runs: int, folder: Path) -> int:
    """Fuzz a target with libFuzzer, which keeps its corpus and what it finds in the folder.

    Does not return: libFuzzer ends the process, with 0 after so many runs without a finding.
    """
    try:
        import atheris
    except ImportError:
        print("error: --guided needs Atheris. Fix: pip install atheris", file=sys.stderr)
        return 2
    target = next(each for each in parsers.TARGETS if each.name == name)
    corpus = (folder / "guided" / name).absolute()
    corpus.mkdir(parents=True, exist_ok=True)
    seeds = target.seeds()
    for data in seeds:
        (corpus / campaign.name_of(data)).write_bytes(data)
    place = tempfile.mkdtemp(dir=parsers.fast_folder())
    with atheris.instrument_imports(include=["xdecoder_rt"]):
        read = target.prepare(Path(place))

    def change(data: bytes, most: int, seed: int) -> bytes:
        rng = Random(seed)
        return target.mutate(rng, data or seeds[0], rng.choice(seeds))[:most]

    def test(data: bytes) -> None:
        _, finding = campaign.run_once(target, read, data)
        if finding is not None:
            raise AssertionError(finding.story)

    options = [f"-runs={runs}", "-max_len=65536", f"-artifact_prefix={corpus.parent}/{name}-"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], test, custom_mutator=change)
    atheris.Fuzz()
    return 0
