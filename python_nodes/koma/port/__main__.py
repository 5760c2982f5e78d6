"""``python -m koma.port``: a model node, as the gateway starts it, with pipes on descriptors 3 and 4."""

from __future__ import annotations

import logging
import os
import sys
import threading
from typing import NoReturn

from koma.port.logs import forward_logs
from koma.port.node import Node
from koma.port.pipes import Pipes
from koma.port.process import EX_SOFTWARE, EX_USAGE, die_with_parent, on_terminate, set_name

_log = logging.getLogger("koma.port")


def main() -> NoReturn:
    """Run one model node and leave with its exit code."""
    die_with_parent()
    set_name("koma:node")
    try:
        pipes = Pipes()
    except OSError:
        print("koma.port is started by the gateway, with pipes on descriptors 3 and 4", file=sys.stderr)
        sys.exit(EX_USAGE)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # no library shall read the gateway's terminal
    node = Node(pipes)
    forward_logs(node.send)
    threading.excepthook = _crash
    on_terminate(node.drain)
    _leave(_run(node))


def _run(node: Node) -> int:
    try:
        return node.run()
    except Exception as error:
        _log.critical("the model node broke", exc_info=error)
        return EX_SOFTWARE


def _crash(args: threading.ExceptHookArgs) -> None:
    """A broken invariant on any thread ends the node; the gateway runs its jobs again elsewhere."""
    info = (args.exc_type, args.exc_value, args.exc_traceback)
    _log.critical("a thread of the model node broke", exc_info=info)  # type: ignore[arg-type]
    _leave(EX_SOFTWARE)


def _leave(code: int) -> NoReturn:
    """Leave at once: a worker thread inside a library must not hold up the end of the process."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
