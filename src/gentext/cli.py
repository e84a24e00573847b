"""The command line: `gentext train | sample | export | bench | doctor`.

Everything heavy is imported inside the commands, so that `gentext --help` answers at once.
"""

from __future__ import annotations

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
) -> None:
    """Train a recipe, measure it, and write its weights with their card. Goes on where a stopped run left off."""
    import torch

    from gentext import zoo
    from gentext.train import recipes, run

    with one_sentence():
        if name is None:
            for known in recipes.names():
                recipe = recipes.get(known)
                typer.echo(f"{known:24} chapter {recipe.chapter:2}, {recipe.fit.num_steps:6,} steps: {recipe.summary}")
            return
        recipe = recipes.get(name)
        if threads is not None:
            torch.set_num_threads(threads)
        path = run(recipe, out, not fresh, steps, device=device, progress=not quiet)
        card = zoo.card(path)
        typer.echo(f"{path} ({path.stat().st_size / 1e6:.2f} MB): {card.summary}")
        typer.echo(f"{card.steps:,} steps in {card.wall_seconds:,.0f} s on {card.device}, {card.threads} threads")
        for metric, measurement in card.metrics.items():
            typer.echo(f"  {metric}: {measurement}")
        if publish:
            zoo.WEIGHTS.mkdir(exist_ok=True)
            shipped = zoo.WEIGHTS / path.name
            temporary = shipped.with_name(f".{shipped.name}.tmp")
            shutil.copyfile(path, temporary)
            temporary.replace(shipped)
            typer.echo(f"published to {shipped}")


if __name__ == "__main__":
    sys.exit(app())
