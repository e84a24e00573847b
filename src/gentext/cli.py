"""The command line: `gentext train | sample | export | bench | grade | doctor`.

Each command imports what it needs when it is called, so that one whose packages are missing does not stop the others.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="The package behind the book: train its models, draw from them, build its live figures.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@contextmanager
def one_sentence() -> Iterator[None]:
    """Expected failures end in one sentence and exit status 1 (130 for Ctrl-C), not in a traceback."""
    try:
        yield
    except BrokenPipeError:  # the reader of our output left early, as `| head` does
        raise
    except (ValueError, FloatingPointError, OSError) as error:
        typer.secho(f"gentext: {error}", fg="red", err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        typer.secho("gentext: stopped; the same command goes on from the checkpoint", err=True)
        raise typer.Exit(130) from None


@app.command()
def train(
    name: Annotated[str | None, typer.Argument(help="A recipe; without one, all are listed.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the weights and the checkpoint.")] = Path("runs"),
    steps: Annotated[int | None, typer.Option(help="Train this many steps instead of the recipe's.")] = None,
    fresh: Annotated[bool, typer.Option(help="Start anew, even if a checkpoint is there.")] = False,
    publish: Annotated[bool, typer.Option(help="Also copy the weights into the package's zoo.")] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads for torch.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or mps; the best present if not given.")] = None,
    quiet: Annotated[bool, typer.Option(help="No progress.")] = False,
    listed: Annotated[bool, typer.Option("--list", help="Only list the recipes.")] = False,
) -> None:
    """Train a recipe, measure it, and write its weights with their card. Goes on where a stopped run left off."""
    import torch

    import gentext.train.recipes as recipes
    from gentext import zoo
    from gentext.train import run
    from gentext.train.recipe import is_first_process

    with one_sentence():
        if name is None or listed:
            for known in recipes.names():
                recipe = recipes.get(known)
                typer.echo(f"{known:24} chapter {recipe.chapter:2}, {recipe.fit.num_steps:6,} steps: {recipe.summary}")
            return
        recipe = recipes.get(name)
        if threads is not None:
            torch.set_num_threads(threads)
        path = run(recipe, out, not fresh, steps, device=device, progress=not quiet)
        if not is_first_process():
            return
        card = zoo.card(path)
        typer.echo(f"{path} ({path.stat().st_size / 1e6:.2f} MB): {card.summary}")
        typer.echo(f"{card.steps:,} steps in {card.wall_seconds:,.0f} s on {card.device}, threads: {card.threads}")
        for metric, measurement in card.metrics.items():
            typer.echo(f"  {metric}: {measurement}")
        if publish:
            zoo.WEIGHTS.mkdir(exist_ok=True)
            shipped = zoo.WEIGHTS / path.name
            temporary = shipped.with_name(f".{shipped.name}.tmp")
            shutil.copyfile(path, temporary)
            temporary.replace(shipped)
            typer.echo(f"published to {shipped}")


@app.command()
def sample(
    name: Annotated[str, typer.Argument(help="A model of the zoo, or a .safetensors file of yours.")],
    n: Annotated[int, typer.Option("-n", min=1, max=4096, help="How many.")] = 16,
    out: Annotated[Path, typer.Option(help="The picture to write (.png).")] = Path("sheet.png"),
    seed: Annotated[int, typer.Option(help="Another seed, other samples.")] = 0,
    label: Annotated[
        int | None, typer.Option(min=0, help="Class, for models that know classes; else a mixture.")
    ] = None,
    temperature: Annotated[float, typer.Option(min=0.0, help="Spread of the draws; 1 is the model itself.")] = 1.0,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or mps; the best present if not given.")] = None,
) -> None:
    """Draw samples from a trained model and write them as one picture."""
    from gentext import device as pick_device
    from gentext import zoo
    from gentext._sheet import draw, write_sheet

    with one_sentence():
        if out.suffix != ".png":
            raise ValueError(f"the picture is a .png file, got {out}")
        model = zoo.load(name, pick_device(device))
        write_sheet(draw(model, n, seed, label, temperature), out)
        typer.echo(f"{n} samples of {name} in {out}")


@app.command()
def export(
    out: Annotated[Path, typer.Option(help="Folder to fill.")] = Path("book/vendor/_static/live"),
    figure: Annotated[list[str] | None, typer.Option(help="Only this figure; may be repeated.")] = None,
) -> None:
    """Write what the live figures need in a browser: networks as ONNX, state, front end."""
    with one_sentence():
        try:
            from gentext.live.export import export_all

            written = export_all(out, figure or None)
        except ModuleNotFoundError as error:
            raise ValueError(f"exporting needs the package {error.name!r}: pip install 'gentext[book]'") from error
        size = sum(path.stat().st_size for path in written)
        typer.echo(f"{len(written)} files, {size / 1e6:.1f} MB in {out}")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def bench(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="A benchmark; without one, all are listed.")] = None,
) -> None:
    """Run a benchmark of a checkout of the project. Further arguments go to the benchmark."""
    import importlib

    with one_sentence():
        root = checkout()
        known = sorted(path.stem for path in (root / "benchmarks").glob("*.py") if is_benchmark(path))
        if name is None:
            typer.echo("\n".join(known))
            return
        if name not in known:
            raise ValueError(f"no benchmark is called {name!r}; there are: {', '.join(known)}")
        sys.path.insert(0, str(root))
        raise typer.Exit(importlib.import_module(f"benchmarks.{name}").main(context.args) or 0)


def checkout() -> Path:
    """The project's folder that holds benchmarks: above this file, or above the working directory."""
    for place in (Path(__file__).resolve(), Path.cwd() / "x"):
        for folder in place.parents:
            if (folder / "benchmarks").is_dir() and (folder / "pyproject.toml").is_file():
                return folder
    raise ValueError("benchmarks are not part of the installed package: run this in a checkout of the project")


def is_benchmark(path: Path) -> bool:
    return re.search(r"^def main\(", path.read_text(encoding="utf-8"), re.MULTILINE) is not None


@app.command()
def grade(
    folder: Annotated[Path, typer.Argument(help="Submissions, as the learning platform exported them.")],
    assignment: Annotated[str, typer.Option(help="Name of the assignment, or its chapter's number.")],
    out: Annotated[Path, typer.Option(help="The table to write.")] = Path("grades.csv"),
    seed: Annotated[int, typer.Option(help="The variant that was handed out.")] = 0,
    tests: Annotated[Path | None, typer.Option(help="A -tests.json of `make assignments`; else the masters.")] = None,
    masters: Annotated[Path, typer.Option(help="Folder of the master notebooks.")] = Path("assignments"),
    jobs: Annotated[int | None, typer.Option(min=1, help="Submissions at a time; one a core if not given.")] = None,
    seconds: Annotated[float, typer.Option(min=1, help="For a whole submission.")] = 300.0,
    cell_seconds: Annotated[float, typer.Option(min=1, help="For one cell.")] = 60.0,
    memory_mb: Annotated[int, typer.Option(min=256, help="For a submission's processes together.")] = 4096,
    data_seed: Annotated[int | None, typer.Option(help="Seed of the hidden tests' data, to repeat a grading.")] = None,
    quiet: Annotated[bool, typer.Option(help="No progress.")] = False,
) -> None:
    """Grade a folder of submissions into one table. Goes on where a stopped grading left off."""
    from gentext.classroom.assignment import read_master
    from gentext.classroom.batch import grade_folder
    from gentext.classroom.masters import find_master, load_tests
    from gentext.classroom.report import summary, write_feedback, write_table
    from gentext.classroom.sandbox import Limits

    with one_sentence():
        if tests is not None:
            asked = load_tests(tests)
        else:
            asked = read_master(find_master(assignment, masters)).variant(seed)
        if asked.name != assignment and asked.name.partition("-")[0] != assignment.zfill(2):
            raise ValueError(f"{tests} holds the tests of {asked.name}, not of {assignment}")
        store = out.with_name(f"{out.stem}-work")
        limits = Limits(seconds=seconds, cell_seconds=cell_seconds, memory_mb=memory_mb)
        history = masters.resolve().parent / ".git"  # of a checkout: it has the masters too
        hide = [masters, history, *([tests] if tests is not None else [])]
        graded = grade_folder(
            folder, asked, store, limits=limits, jobs=jobs, hide=hide, seed=data_seed, progress=not quiet
        )
        write_table(out, asked, graded)
        write_feedback(out.with_name(f"{out.stem}-feedback"), asked, graded)
        typer.echo(summary(graded))
        typer.echo(f"{len(graded)} files in {out}; a page for each student in {out.stem}-feedback")


@app.command()
def doctor() -> None:
    """Say what is installed here, whether the book runs with it, and what to do if not."""
    from gentext._doctor import examine

    problems = 0
    for finding in examine():
        colour = "red" if finding.serious else "yellow" if finding.advice else "green"
        mark = "✗" if finding.serious else "!" if finding.advice else "✓"
        typer.echo(f"{typer.style(mark, fg=colour)} {finding.what}: {finding.found}")
        if finding.advice:
            typer.echo(f"    {finding.advice}")
        problems += finding.serious
    if problems:
        typer.echo(f"{problems} {'thing needs' if problems == 1 else 'things need'} doing before the book runs here.")
        raise typer.Exit(1)
    typer.echo("Everything the book needs is here.")


if __name__ == "__main__":
    sys.exit(app())
