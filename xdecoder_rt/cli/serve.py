"""``xdecoder-rt serve``: plans behind an address."""

from __future__ import annotations

import argparse
import os
import re
from contextlib import suppress

from xdecoder_rt.cli.options import DEFAULT_PLAN, add_engine, positive
from xdecoder_rt.cli.output import CommandReport
from xdecoder_rt.errors import quoted, require

SUMMARY = "answer requests over HTTP, and a page to try words in a browser"
DESCRIPTION = """\
Answer requests over HTTP: /v1/segment, /refer, /caption, /answer, /embed, /rank and /run take an
image as a form or base64 in JSON; /v1/images keeps one for later questions. / is a page to try
words in a browser, /openapi.json describes the calls, /healthz, /readyz and /metrics (Prometheus)
are for whoever runs it. Several plans may be served; a request names one of them.

Only this machine is answered unless --host says otherwise; then clients need the token in
$XDECODER_RT_TOKEN (Authorization: Bearer TOKEN). Requests beyond --queue are refused with 429, and
every refusal says what is wrong, what was expected and what to do. SIGTERM and Ctrl-C end the
service after the requests that run. Needs: pip install "xdecoder_rt[serve]".
"""
EXAMPLES = """\
  xdecoder-rt serve model.plan
  xdecoder-rt serve fast=int8.plan exact=fp32.plan --port 9000
  xdecoder-rt serve model.plan --host 0.0.0.0    with a token in $XDECODER_RT_TOKEN
  curl -F image=@desk.jpg -F 'request={"words": ["mug"]}' http://127.0.0.1:8000/v1/segment
"""
TOKEN = "XDECODER_RT_TOKEN"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``serve``."""
    parser.add_argument(
        "plans",
        nargs="*",
        default=[DEFAULT_PLAN],
        metavar="PLAN",
        help=f"plans, as FILE or NAME=FILE; the first answers where none is named (default "
        f"{DEFAULT_PLAN})",
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen at; 0.0.0.0 lets other machines in (default: %(default)s)",
    )
    parser.add_argument(
        "--port",
        type=_port,
        default=8000,
        metavar="N",
        help="port; 0 chooses a free one (default: %(default)s)",
    )
    parser.add_argument(
        "--no-token",
        action="store_true",
        help=f"let other machines in without a token (${TOKEN})",
    )
    bounds = parser.add_argument_group("bounds")
    bounds.add_argument(
        "--concurrent",
        type=positive,
        default=1,
        metavar="N",
        help="requests that are answered at a time (default: %(default)s)",
    )
    bounds.add_argument(
        "--queue",
        type=positive,
        default=16,
        metavar="N",
        help="requests that may wait; others get 429 (default: %(default)s)",
    )
    bounds.add_argument(
        "--deadline",
        type=positive,
        default=120,
        metavar="SECONDS",
        help="in which a request is answered, else 504 (default: %(default)s)",
    )
    bounds.add_argument(
        "--max-mib",
        type=positive,
        default=20,
        metavar="MIB",
        help="largest request (default: %(default)s)",
    )
    bounds.add_argument(
        "--max-megapixels",
        type=positive,
        default=50,
        metavar="MP",
        help="largest image, before it is decoded (default: %(default)s)",
    )
    bounds.add_argument(
        "--keep",
        type=positive,
        default=16,
        metavar="N",
        help="encoded images that are kept for later questions (default: %(default)s)",
    )
    add_engine(parser)


def run(args: argparse.Namespace) -> int:
    """Serve until a signal.

    Raises:
        XDecoderError: a plan, the address or the token are not usable.
    """
    for module in ("fastapi", "uvicorn", "prometheus_client", "python_multipart"):
        require(module, "serve")
    from xdecoder_rt.serving.limits import Limits
    from xdecoder_rt.serving.server import ServerOptions, serve

    report: CommandReport = args.command_report
    options = ServerOptions(
        args.host, args.port, os.environ.get(TOKEN) or None, args.no_token, args.concurrent
    )
    limits = Limits(
        body_bytes=args.max_mib << 20,
        bodies_bytes=max(256, 4 * args.max_mib) << 20,
        pixels=args.max_megapixels * 1_000_000,
        waiting=args.queue,
        seconds=float(args.deadline),
        kept=args.keep,
    )
    with suppress(KeyboardInterrupt):  # the signal that ended it, raised again by uvicorn
        serve(
            args.plans,
            options,
            limits,
            backend=args.backend,
            device=args.device,
            threads=args.threads,
            cache_dir=args.cache_dir,
            ready=lambda address: report.text(f"serving at {address}"),
        )
    report.text("ended")
    return 0


def _port(text: str) -> int:
    """Return a port, for argparse."""
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{quoted(text)} is not a port from 0 to 65535")
    return int(text)
