"""`koma train …`: one command for each of the five runs; also `python -m koma.training.cli …`."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Train small checkpoints on Emoji World.", add_completion=False)

# command → module and class of the run; imported only when asked for (torch takes seconds to import)
RUNS: dict[str, tuple[str, str]] = {
    "vq": ("koma.training.vq", "VQRun"),
    "amused": ("koma.training.amused", "AmusedRun"),
    "ltx-vae": ("koma.training.ltx_vae", "LTXVAERun"),
    "ltx": ("koma.training.ltx", "LTXRun"),
    "smolvlm2": ("koma.training.smolvlm2", "SmolVLM2Run"),
    "smolvlm2-questions": ("koma.training.smolvlm2_questions", "SmolVLM2QuestionsRun"),
    "judge": ("koma.training.judge", "JudgeRun"),
}

Minutes = Annotated[float | None, typer.Option(min=0, help="End after this many minutes of training.")]
Steps = Annotated[int | None, typer.Option(min=0, help="End after this many steps.")]
Size = Annotated[int, typer.Option(min=16, max=512, help="Side of the images in pixels.")]
Out = Annotated[Path | None, typer.Option(help="Folder of the run [default: runs/NAME].")]
Export = Annotated[Path | None, typer.Option(help="Folder of the exported checkpoint [default: OUT/export].")]
SheetEvery = Annotated[int, typer.Option(min=1, help="Steps between sample sheets.")]
SaveEvery = Annotated[int | None, typer.Option(min=1, help="Save also every so many steps.")]
StartFrom = Annotated[Path | None, typer.Option(help="Begin with the weights of this exported checkpoint.")]
Batch = Annotated[int | None, typer.Option(min=1, help="Samples a step [default: the run's own].")]


def run_command(name: str) -> None:
    """Register the command of one run."""

    @app.command(name, help=f"Train {name}; ends with a sample sheet and an exported checkpoint.")
    def command(
        minutes: Minutes = None,
        steps: Steps = None,
        resume: Annotated[bool, typer.Option("--resume", help="Continue from OUT's checkpoint.")] = False,
        device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
        size: Size = 128,
        out: Out = None,
        seed: Annotated[int, typer.Option(min=0)] = 0,
        batch: Batch = None,
        sheet_every: SheetEvery = 1000,
        save_every: SaveEvery = None,
        tiny: Annotated[bool, typer.Option("--tiny", help="A very small model, for tests.")] = False,
        compile: Annotated[bool, typer.Option(help="Use torch.compile on a GPU.")] = True,
        export: Export = None,
        start_from: StartFrom = None,
    ) -> None:
        from koma.training.loop import Options, TrainingDivergedError, fit

        module, class_name = RUNS[name]
        if minutes is None and steps is None:
            raise typer.BadParameter("give --minutes or --steps", param_hint="--minutes / --steps")
        options = Options(
            out=out or Path("runs") / name,
            minutes=minutes,
            steps=steps,
            resume=resume,
            device=device,
            seed=seed,
            sheet_every=sheet_every,
            save_every=save_every,
            compile=compile,
            export=export,
            start_from=start_from,
        )
        try:
            run = getattr(import_module(module), class_name)(size=size, tiny=tiny, batch=batch)
            result = fit(run, options)
        except (ValueError, FileNotFoundError) as error:
            raise typer.BadParameter(str(error)) from error
        except TrainingDivergedError as error:
            print(error, file=sys.stderr)
            raise typer.Exit(1) from error
        done = "finished" if result.finished else "stopped and saved; continue with --resume"
        print(f"{name}: {done} after {result.steps} steps, {result.elapsed:.0f} s; {options.out}")
        raise typer.Exit(0 if result.finished else 130)


for _name in RUNS:
    run_command(_name)

if __name__ == "__main__":
    app()
