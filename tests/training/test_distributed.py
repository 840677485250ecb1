"""Several processes train as one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("scipy", reason="training needs scipy")
pytest.importorskip("cv2", reason="training needs opencv-python-headless")

SCRIPT = """
import sys, torch
from pathlib import Path
from xdecoder_rt.training.config import SourceSpec, TrainConfig
from xdecoder_rt.training.distributed import World, any_process, from_main_process
from xdecoder_rt.training.sources import open_source
from xdecoder_rt.training.text_losses import retrieval_loss
from xdecoder_rt.training.trainer import Trainer
sys.path.insert(0, sys.argv[1])
from conftest import tiny_config, tiny_tokens
from xdecoder_rt.models import XDecoder

torch.set_num_threads(1)
torch.manual_seed(0)
world, device = World.from_environment(), torch.device("cpu")
world.join(device)
folder, out = Path(sys.argv[2]), Path(sys.argv[3])
config = TrainConfig(
    sources=(SourceSpec(folder),), out=out, validation=(folder,), steps=3, batch_size=2, size=64,
    points=32, matching_points=64, vocabulary_size=5, workers=0, validation_items=2, log_every=1,
    progress=False,
)
source = open_source(folder)
trainer = Trainer(
    config, XDecoder(tiny_config()), tiny_tokens, [source], {folder.name: source}, world, device
)
trainer.run()
assert trainer.position == 3 * 2 * world.size
assert any_process(world.rank == 1, device)
assert from_main_process(float(world.rank), device) == 0
# Batch statistics are each process's own until the next step.
total = sum(value.double().sum() for value in trainer.average.model.parameters())
gathered = [torch.zeros((), dtype=torch.float64) for _ in range(world.size)]
torch.distributed.all_gather(gathered, total)
assert gathered[0] == gathered[1], gathered

# Contrastive loss of the halves of a batch: the loss and the gradient of the whole.
images, texts = torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(1)).unbind()
keys, present = torch.tensor([1, 2, 1, 3]), torch.tensor([True, True, True, False])


def halves(own):
    parts = [images[own].clone().requires_grad_(), texts[own].clone().requires_grad_()]
    scale = torch.tensor(5.0)
    loss = retrieval_loss(parts[0][None], parts[1], keys[own], present[own], scale)
    loss.backward()
    return loss, [part.grad for part in parts]


own = slice(2 * world.rank, 2 * world.rank + 2)
loss, gradients = halves(own)
world.leave()
whole, wanted = halves(slice(0, 4))
torch.testing.assert_close(loss, whole)
for gradient, all_of_them in zip(gradients, wanted):
    torch.testing.assert_close(gradient / world.size, all_of_them[own])
"""


@pytest.mark.slow
def test_two_processes_keep_the_same_weights_and_write_once(
    tiny_folder: Path, tmp_path: Path
) -> None:
    script = tmp_path / "run.py"
    script.write_text(SCRIPT)
    run = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", "2", str(script)),
            *(str(Path(__file__).parent), str(tiny_folder), str(tmp_path / "out")),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "out" / "model.safetensors").is_file()
    assert len((tmp_path / "out" / "metrics.jsonl").read_text().splitlines()) == 4
