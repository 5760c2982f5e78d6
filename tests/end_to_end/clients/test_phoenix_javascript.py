"""npm's phoenix, the official JavaScript client, in Node: the cases are in phoenix.test.mjs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from koma.cli.server_process import ServerProcess

CASES = Path(__file__).with_name("phoenix.test.mjs")


def test_the_official_javascript_client_works_unchanged(server: ServerProcess) -> None:
    result = subprocess.run(
        ["node", "--test", str(CASES)],
        env={**os.environ, "KOMA_URL": server.url},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
