"""What a snippet costs in a process of its own: seconds of a processor and memory."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

# Not getrusage for memory: its peak begins as that of the parent process.
_MEASURED = """\
import re, resource, sys, time, warnings
warnings.simplefilter("ignore")
limit = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
{imports}
kibibytes, start = peak(), time.process_time()
try:
    {call}
except Exception as error:
    print(f"{{type(error).__name__}}: {{error}}"[:1000])
print(time.process_time() - start, (peak() - kibibytes) >> 10)
"""


@dataclass(frozen=True)
class Cost:
    """What a call took and said.

    Attributes:
        seconds: of a processor.
        mebibytes: by which the peak of memory rose.
        text: what it printed, and the exception that ended it.
    """

    seconds: float
    mebibytes: int
    text: str


def cost(imports: str, call: str, *arguments: object, address_space: int = 8 << 30) -> Cost:
    """Run a call in another process, whose address space is limited.

    Args:
        imports: lines that come before, unmeasured.
        call: one statement; `sys.argv[1:]` are the arguments.
        arguments: of the process.
        address_space: bytes.
    """
    code = _MEASURED.format(imports=imports, call=call)
    run = subprocess.run(
        [sys.executable, "-c", code, str(address_space), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    *lines, last = run.stdout.splitlines()
    seconds, mebibytes = last.split()
    return Cost(float(seconds), int(mebibytes), "\n".join(lines))
