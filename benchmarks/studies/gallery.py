"""Pictures of everything that a plan says of scenes from labelled folders.

    python benchmarks/studies/gallery.py model.plan data/workcell_val data/clipart_val \\
        -o docs/images/unseen

Each scene is asked for the folder's whole vocabulary, for three of its own phrases, for a caption
and for the answer to its first question, all at once (`Engine.run`). The scenes are spread evenly
over each folder; nothing is chosen. `scenes.json`, beside the pictures, has the questions with
their right answers, and the scene's own caption.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from xdecoder_rt import Engine, XDecoderError
from xdecoder_rt.atomic import atomic_writer
from xdecoder_rt.cli.options import positive
from xdecoder_rt.datasets.labelled_folder import LabelledFolder

PHRASES = 3
WIDTH = 640


def main() -> int:
    """Read the command line and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("plan", type=Path)
    parser.add_argument("folders", type=Path, nargs="+", metavar="DIR")
    parser.add_argument("--count", type=positive, default=10, help="pictures in all (default 10)")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    args = parser.parse_args()
    try:
        with Engine(args.plan) as engine:
            records = draw(engine, args.folders, args.count, args.output)
    except XDecoderError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    with atomic_writer(args.output / "scenes.json") as file:
        file.write(json.dumps(records, indent=1).encode() + b"\n")
    return 0


def draw(engine: Engine, folders: list[Path], count: int, output: Path) -> list[dict[str, Any]]:
    """Write the pictures; what was asked and what was right, a record a picture."""
    output.mkdir(parents=True, exist_ok=True)
    records = []
    shares = np.diff(np.linspace(0, count, len(folders) + 1).round().astype(int))
    for path, share in zip(folders, shares.tolist(), strict=True):
        folder = LabelledFolder.open(path, verify=False)
        chosen = np.linspace(0, len(folder.items) - 1, share + 2)[1:-1].astype(int)
        for index in chosen.tolist():
            item = folder.items[index]
            question = item.questions[0] if item.questions else None
            image = item.load_image()
            out = engine.run(
                image,
                segment=folder.vocabulary,
                stuff=folder.stuff,
                refer=[phrase.text for phrase in item.phrases[:PHRASES]] or None,
                caption=True,
                answer=question.text if question else None,
                choices=question.choices if question else None,
            )
            picture = out.draw(image, question=question.text if question else None)
            height = round(picture.height * WIDTH / picture.width)
            name = f"{path.name}_{index:03}.jpg"
            picture.resize((WIDTH, height), Image.Resampling.LANCZOS).save(
                output / name, quality=85
            )
            records.append(
                {
                    "picture": name,
                    "caption": out.caption.text,
                    "caption of the scene": item.captions[0] if item.captions else None,
                    "question": question.text if question else None,
                    "answer": out.answer.text if out.answer else None,
                    "right answers": list(question.answers) if question else None,
                }
            )
    return records


if __name__ == "__main__":
    sys.exit(main())
