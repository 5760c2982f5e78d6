"""torch.compile with a way back: what cannot be compiled here runs as it is, and the log says why."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any


def compiled(function: Callable[..., Any], name: str, wanted: bool, **options: Any) -> Callable[..., Any]:
    """`torch.compile(function, **options)` where `wanted`; `function` itself if it fails to compile.

    Only the first call can fall back: later errors are the function's own and are raised.
    """
    if not wanted:
        return function
    import torch

    fast = torch.compile(function, **options)
    chosen: list[Callable[..., Any]] = []

    def call(*arguments: Any, **keywords: Any) -> Any:
        if chosen:
            return chosen[0](*arguments, **keywords)
        try:
            result = fast(*arguments, **keywords)
            chosen.append(fast)
        except Exception as error:
            reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            print(f"{name} runs without torch.compile: {reason}", file=sys.stderr, flush=True)
            chosen.append(function)
            result = function(*arguments, **keywords)
        return result

    return call
