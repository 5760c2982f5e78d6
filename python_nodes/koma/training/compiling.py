"""torch.compile with a way back: what cannot be compiled here runs as it is, and the log says why."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any


def compiled(function: Callable[..., Any], name: str, wanted: bool, **options: Any) -> Callable[..., Any]:  # noqa: ANN401
    """`torch.compile(function, **options)` where `wanted`; falls back to `function` for ever if a call fails to compile.

    Only the first call can fall back: later errors are the function's own and are raised.
    """
    if not wanted:
        return function
    import torch

    fast = torch.compile(function, **options)
    state = {"run": fast, "proven": False}

    def call(*arguments: Any, **keywords: Any) -> Any:  # noqa: ANN401
        if state["proven"]:
            return state["run"](*arguments, **keywords)
        try:
            result = state["run"](*arguments, **keywords)
        except Exception as error:
            reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            print(f"{name} runs without torch.compile: {reason}", file=sys.stderr, flush=True)
            state["run"] = function
            result = function(*arguments, **keywords)
        state["proven"] = True
        return result

    return call
