#!/usr/bin/env bash
# Record a real run of the demo as docs/images/demo.svg: the terminal while the last stage runs, and at the end.
# Needs tmux, which nothing else does.
set -euo pipefail
cd "$(dirname "$0")/.."
session=koma-demo-$$
screens=$(mktemp -d)
trap 'tmux kill-session -t "$session" 2>/dev/null || true; rm -rf "$screens"' EXIT

tmux new-session -d -s "$session" -x 100 -y 44 '.venv/bin/koma demo; tmux wait-for -S '"$session"'; read -r'
(
  while tmux has-session -t "$session" 2>/dev/null; do
    tmux capture-pane -e -p -t "$session" >"$screens/now" && grep -q 'video.*step' "$screens/now" && cp "$screens/now" "$screens/middle"
    sleep 0.2
  done
) &
tmux wait-for "$session"
tmux capture-pane -e -p -t "$session" >"$screens/end"
touch "$screens/middle"
.venv/bin/python - "$screens" docs/images/demo.svg <<'PYTHON'
import io
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

screens, out = map(Path, sys.argv[1:])
console = Console(record=True, width=100, file=io.StringIO())
console.print("[bold]$ make demo[/bold]")
for name in ("middle", "end"):
    lines = (screens / name).read_text().rstrip().splitlines()
    for line in lines:
        console.print(Text.from_ansi(line), no_wrap=True)
    if name == "middle" and lines:
        console.print("[dim]… some seconds later …[/dim]")
console.save_svg(str(out), title="koma demo")
PYTHON
echo "wrote docs/images/demo.svg"
