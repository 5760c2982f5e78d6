"""From an exception of a runner to the ``failed`` message of its job."""

from __future__ import annotations

import errno

from koma.errors import KomaError
from koma.port.messages import Failed, Scope
from koma.runtime.memory import is_out_of_memory
from koma.runtime.pulse import Cancelled

MAX_MESSAGE = 300
"""Characters of a message that came from a library."""


FAILURES = (Exception, SystemExit, Cancelled)
"""What a phase may raise to end its job, and no more than that."""


class NodeBroken(Exception):
    """The process cannot run any job any more."""


def to_error(error: BaseException) -> KomaError:
    """Return ``error`` as an error that can be told to a user."""
    if isinstance(error, KomaError):
        return error
    if is_out_of_memory(error):
        return KomaError("out_of_memory", "the job does not fit into the memory of the model node")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return KomaError("storage_full", "the disk of the model node is full")
    first = next(iter(str(error).splitlines()), "")
    return KomaError("model_failed", f"{type(error).__name__}: {first}"[:MAX_MESSAGE].removesuffix(": "))


def failed(job_id: str, error: BaseException, scope: Scope = "job") -> Failed:
    """Return the message that ends a job, or the node, with ``error``."""
    told = to_error(error)
    return Failed(job_id, scope, told.code, told.message, told.field, told.value, told.bound)


def is_expected(error: BaseException) -> bool:
    """Whether the error needs no traceback in the log: it was raised to be told, or memory ran out."""
    return isinstance(error, KomaError) or is_out_of_memory(error)
