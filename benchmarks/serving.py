"""A service under load: requests of many clients, bad ones among them; none may be lost.

    python benchmarks/serving.py model.plan shots --requests 1000 --clients 16

Starts `xdecoder-rt serve`, asks, compares every good answer with the engine's own, and reports the
rate, the 50th and 99th percentile of the times, and the memory of the service as it goes.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from xdecoder_rt import Engine
from xdecoder_rt.files.folder import list_images

WORDS = ("mug", "box", "robot arm", "floor")
PHRASE = "the largest box"
# A request is bad in turn in one of these ways, each with the statuses that are right for it.
BAD: tuple[tuple[str, bytes, tuple[int, ...]], ...] = (
    ("half JSON", b'{"words": ["mug"', (422,)),
    ("no image", json.dumps({"words": ["mug"]}).encode(), (400,)),
    ("no words", json.dumps({"image": "AAAA", "words": []}).encode(), (422,)),
    ("broken image", json.dumps({"image": "AAAA", "words": ["mug"]}).encode(), (400,)),
    ("another plan", json.dumps({"plan": "gone", "words": ["mug"]}).encode(), (404,)),
    ("huge", b'{"image": "' + b"A" * (21 << 20) + b'"}', (413,)),
)


def resident_mib(process: int) -> float:
    """Return the memory of a process as Linux counts it."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


class Load:
    """What the clients share.

    Args:
        address: of the service.
        bodies: good requests.
        truths: the answers that the engine gives.
        bad_every: each so-manyth request is bad.
    """

    def __init__(
        self, address: str, bodies: list[bytes], truths: list[dict[str, Any]], bad_every: int
    ) -> None:
        self.address = address
        self.bodies = bodies
        self.truths = truths
        self.bad_every = bad_every
        self.waiting: SimpleQueue[int] = SimpleQueue()
        self.seconds: list[float] = []
        self.counts = Counter[str]()
        self.lock = threading.Lock()

    def client(self) -> None:
        """Ask until nothing waits; a 429 is asked again a little later, as it says."""
        while True:
            try:
                number = self.waiting.get_nowait()
            except Empty:
                return
            is_bad = number % self.bad_every == 0
            name, body, right = BAD[number // self.bad_every % len(BAD)]
            if not is_bad:
                name, body, right = "good", self.bodies[number % len(self.bodies)], (200,)
            start = time.perf_counter()
            while (answer := self._ask(body))[0] == 429:
                self._count("told to come again")
                time.sleep(0.2)
            self._judge(number, name, right, *answer, time.perf_counter() - start)

    def _ask(self, body: bytes) -> tuple[int, dict[str, Any]]:
        request = Request(f"{self.address}/v1/run", body, {"Content-Type": "application/json"})
        try:
            with urlopen(request, timeout=300) as answer:
                return answer.status, json.load(answer)
        except HTTPError as error:
            return error.code, json.load(error)
        except OSError as error:
            # The service closes the line on a body over the bound while it is still being sent.
            return (413 if len(body) > 20 << 20 else 0), {"lost": str(error)}

    def _judge(
        self,
        number: int,
        name: str,
        right: tuple[int, ...],
        status: int,
        values: dict[str, Any],
        seconds: float,
    ) -> None:
        if status not in right:
            self._count(f"WRONG: {name} got {status}")
        elif name != "good":
            self._count("bad, refused rightly")
        else:
            truth = self.truths[number % len(self.truths)]
            is_equal = all(values[key] == truth[key] for key in truth)
            self._count("good, equal to the engine's" if is_equal else "WRONG: another answer")
            with self.lock:
                self.seconds.append(seconds)

    def _count(self, what: str) -> None:
        with self.lock:
            self.counts[what] += 1


def main() -> int:
    """Run the load; 1 if a request was lost or answered wrongly."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("plan")
    parser.add_argument("images", type=Path, help="a folder")
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--bad-every", type=int, default=7)
    parser.add_argument("--backend")
    args = parser.parse_args()
    files = [path.read_bytes() for path in list_images(args.images).images[:8]]
    asked = {"words": list(WORDS), "phrases": [PHRASE]}
    bodies = [
        json.dumps({"image": base64.b64encode(file).decode(), **asked}).encode() for file in files
    ]
    with Engine(args.plan, backend=args.backend) as engine:
        truths = [engine.run(f, segment=WORDS, refer=[PHRASE]).to_dict() for f in files]
    backend = ["--backend", args.backend] if args.backend else []
    command = [sys.executable, "-m", "xdecoder_rt.cli", "serve", args.plan, "--port", "0", *backend]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    try:
        assert process.stdout is not None
        load = Load(process.stdout.readline().split()[-1], bodies, truths, args.bad_every)
        for number in range(args.requests):
            load.waiting.put(number)
        threads = [threading.Thread(target=load.client) for _ in range(args.clients)]
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        memory = []
        while any(thread.is_alive() for thread in threads):
            memory.append(resident_mib(process.pid))
            time.sleep(0.5)
        seconds = time.perf_counter() - start
    finally:
        process.terminate()
        process.wait()
    done = sum(n for name, n in load.counts.items() if name != "told to come again")
    for name, count in sorted(load.counts.items()):
        print(f"{count:6d}  {name}")
    times = sorted(load.seconds)
    print(
        f"{done} of {args.requests} requests in {seconds:.1f} s, {done / seconds:.1f} a second; "
        f"good ones: median {times[len(times) // 2]:.2f} s, "
        f"p99 {times[len(times) * 99 // 100]:.2f} s"
    )
    quarter = max(1, len(memory) // 4)
    print(
        f"memory: {max(memory[quarter : 2 * quarter] or memory):.0f} MiB in the second quarter, "
        f"{max(memory[-quarter:]):.0f} MiB in the last"
    )
    return int(done != args.requests or any(name.startswith("WRONG") for name in load.counts))


if __name__ == "__main__":
    sys.exit(main())
