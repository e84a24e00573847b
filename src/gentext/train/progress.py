"""Telling how far a fit is: a bar on a terminal or in a notebook, else a plain line now and then."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

LINE_SECONDS = 30.0


class Reporter:
    """A progress bar a few times a second at most, or a line to stderr every 30 s where nobody sees a bar."""

    def __init__(self, num_steps: int, start: int, visible: bool) -> None:
        self.num_steps, self.start = num_steps, start
        self.began = self.last_line = time.perf_counter()
        self.bar: Any = None
        self.lines = False
        if not visible or os.environ.get("TQDM_DISABLE"):  # tqdm's notebook bar does not look at it by itself
            return
        if sys.stderr.isatty() or in_notebook():
            from tqdm.auto import tqdm  # here, because it looks for the notebook's widgets as it is imported

            self.bar = tqdm(total=num_steps, initial=start, unit="step", mininterval=0.25, smoothing=0.05)
        else:
            self.lines = True

    def advance(self) -> None:
        if self.bar is not None:
            self.bar.update()

    def record(self, step: int, terms: dict[str, float]) -> None:
        """Show the latest averages; `step` steps are done."""
        if self.bar is not None:
            self.bar.set_postfix_str(format_terms(terms), refresh=False)
        elif self.lines and time.perf_counter() - self.last_line >= LINE_SECONDS:
            self.last_line = time.perf_counter()
            self.say(f"{self.where(step)}: {format_terms(terms)}")

    def finish(self, step: int, note: str) -> None:
        if self.bar is not None:
            self.bar.close()
        elif self.lines:
            self.say(f"{self.where(step)}: {note}")

    def where(self, step: int) -> str:
        seconds = time.perf_counter() - self.began
        pace = seconds / max(1, step - self.start)
        left = duration(pace * (self.num_steps - step))
        return f"step {step:,} of {self.num_steps:,}, {duration(seconds)} ({1000 * pace:.1f} ms a step, {left} to go)"

    @staticmethod
    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)


def in_notebook() -> bool:
    return "IPython" in sys.modules and sys.modules["IPython"].get_ipython() is not None


def format_terms(terms: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in terms.items())


def duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
