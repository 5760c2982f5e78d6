"""The `koma` command."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Annotated

import typer

from koma import __version__
from koma.cli import (
    demo,
    exits,
    image,
    jobs,
    keys,
    nodes,
    queue,
    serve,
    story,
    task,
    understand,
    verify,
    video,
)
from koma.cli.check_data import check_data

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Understand videos, paint images, make videos: the command line of a Koma server.",
    epilog="Exit codes:\n\n" + exits.table().replace("\n", "\n\n"),
)
app.command()(serve.serve)
app.command("check-data")(check_data)
app.command()(demo.demo)
app.command()(understand.understand)
app.command()(image.image)
app.command()(video.video)
app.command()(story.story)
app.command("run")(task.run_task)
app.command()(verify.verify)
app.add_typer(jobs.app, name="jobs")
app.add_typer(keys.app, name="keys")
app.add_typer(nodes.app, name="nodes")
app.add_typer(queue.app, name="queue")

# Commands of other parts of the package, imported only when they are asked for.
ELSEWHERE = {"train": "koma.training.cli", "evaluate": "koma.training.evaluate.__main__"}
PASS_ON = {"ignore_unknown_options": True, "allow_extra_args": True}


@app.callback(invoke_without_command=True)
def koma(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Print the version, or do what the command says."""
    if version:
        print(__version__)
        raise typer.Exit


@app.command(context_settings=PASS_ON, add_help_option=False)
def train(context: typer.Context) -> None:
    """Train the small checkpoints on Emoji World."""
    _elsewhere(context)


@app.command(context_settings=PASS_ON, add_help_option=False)
def evaluate(context: typer.Context) -> None:
    """Measure the small checkpoints on Emoji World."""
    _elsewhere(context)


def _elsewhere(context: typer.Context) -> None:
    name = context.info_name or ""
    command: typer.Typer = import_module(ELSEWHERE[name]).app
    command(args=context.args, prog_name=f"koma {name}")


def main() -> None:
    """Entry point of the `koma` script."""
    sys.exit(app(prog_name="koma"))


if __name__ == "__main__":
    main()
