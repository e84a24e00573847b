"""The process in which a submission runs: it executes the cells, then answers the judge's questions.

    started by `gentext.classroom.sandbox`, with a pipe in, a pipe out and what it is guarded from as arguments

It holds no test and no mark. Whatever the submission does here, it can only give wrong answers.
"""

from __future__ import annotations

import builtins
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any, BinaryIO

from gentext.classroom.answers import borrowed, differentiate
from gentext.classroom.codec import decode, encode, frame, receive


class Worker:
    """objects: what cannot travel, kept here and referred to by number."""

    def __init__(self, inward: BinaryIO, outward: BinaryIO, guards: list[str]) -> None:
        self.inward, self.outward, self.guards = inward, outward, guards
        self.objects: dict[int, Any] = {}
        self.shell = quiet_shell()

    # ---- messages --------------------------------------------------------------------------------------------------

    def read(self, count: int) -> bytes:
        data = self.inward.read(count)
        if len(data) < count:
            raise SystemExit(0)  # the judge is gone
        return data

    def send(self, message: dict[str, Any]) -> None:
        self.outward.write(frame(message))
        self.outward.flush()

    def serve(self) -> None:
        while True:
            self.send(self.reply(receive(self.read)))

    def reply(self, message: dict[str, Any]) -> dict[str, Any]:
        """The answer to one message, an error included: only the judge ends this process."""
        try:
            return getattr(self, f"do_{message['do']}")(message)
        except (Exception, KeyboardInterrupt, SystemExit) as error:
            return {"error": type(error).__name__, "message": str(error)[:2000], "where": where(error)}

    # ---- what the judge asks for -------------------------------------------------------------------------------------

    def do_run(self, message: dict[str, Any]) -> dict[str, Any]:
        """Execute cells in order, each for so many seconds; go on after an error, as a person would."""
        errors = []
        for number, cell in enumerate(message["cells"]):
            failed = self.run_cell(cell, message["seconds"])
            if failed is not None:
                errors.append({"cell": number, "error": type(failed).__name__, "message": str(failed)[:500]})
        return {"errors": errors}

    def run_cell(self, cell: str, seconds: float) -> BaseException | None:
        def stop(*_: object) -> None:
            raise TimeoutError(f"the cell ran for more than {seconds:g} seconds")

        signal.signal(signal.SIGALRM, stop)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            result = self.shell.run_cell(cell, store_history=False)
            return result.error_before_exec or result.error_in_exec
        except BaseException as error:  # the alarm can ring between two cells
            return error
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def do_guards(self, message: dict[str, Any]) -> dict[str, Any]:
        return {"guards": self.guards}

    def do_names(self, message: dict[str, Any]) -> dict[str, Any]:
        return {"names": [name for name in self.shell.user_ns if isinstance(name, str) and not name.startswith("_")]}

    def do_get(self, message: dict[str, Any]) -> dict[str, Any]:
        return {"value": encode(self.shell.user_ns[message["name"]], self.refer)}

    def do_attribute(self, message: dict[str, Any]) -> dict[str, Any]:
        return {"value": encode(getattr(self.objects[message["object"]], message["name"]), self.refer)}

    def do_call(self, message: dict[str, Any]) -> dict[str, Any]:
        function = self.objects[message["object"]]
        args = decode(message["args"], self.resolve)
        kwargs = decode(message["kwargs"], self.resolve)
        with borrowed(tuple(message["allow"]), tuple(message["banned"])) as seen:
            result = differentiate(function, args, kwargs) if message["gradients"] else function(*args, **kwargs)
        return {"value": encode(result, self.refer), "seen": seen}

    # ---- references --------------------------------------------------------------------------------------------------

    def refer(self, value: Any) -> dict[str, Any]:
        number = len(self.objects)
        self.objects[number] = value
        return {"object": number, "type": type(value).__name__, "callable": callable(value)}

    def resolve(self, data: dict[str, Any]) -> Any:
        if "callback" in data:
            return self.callback(data["callback"])
        return self.objects[data["object"]]

    def callback(self, number: int) -> Callable[..., Any]:
        """A function of the judge's: calling it asks the judge."""

        def call(*args: Any, **kwargs: Any) -> Any:
            arguments = {"args": encode(args, self.refer), "kwargs": encode(kwargs, self.refer)}
            self.send({"callback": number, **arguments})
            answer = receive(self.read)
            if "error" in answer:
                raise getattr(builtins, answer["error"], RuntimeError)(answer["message"])
            return decode(answer["value"], self.resolve)

        return call


def where(error: BaseException) -> str:
    """The last line of the submission's own code in a traceback, such as "line 3 of a cell: x @ y"."""
    frames = [
        f for f in traceback.extract_tb(error.__traceback__) if "ipykernel" in f.filename or "<ipython" in f.filename
    ]
    return f"line {frames[-1].lineno} of a cell: {frames[-1].line}" if frames else ""


def quiet_shell() -> Any:
    """An IPython that keeps no history, prints nowhere, and leaves `!` and `%pip` aside."""
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    config = Config()
    config.HistoryManager.enabled = False
    config.HistoryAccessor.enabled = False
    shell: Any = InteractiveShell.instance(config=config)
    sys.modules["__main__"] = shell.user_module
    shell.showtraceback = lambda *_, **__: None
    shell.system = shell.system_raw = shell.system_piped = shell.getoutput = lambda *_, **__: None
    for kind in ("line", "cell"):
        for name in ("pip", "conda", "mamba", "uv", "sx", "system", "bash", "sh", "script"):
            shell.magics_manager.magics[kind][name] = lambda *_: None
    return shell


def main() -> None:
    inward, outward = (int(number) for number in sys.argv[1:3])
    quiet = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(quiet, stream)
    with os.fdopen(inward, "rb") as from_judge, os.fdopen(outward, "wb") as to_judge:
        Worker(from_judge, to_judge, json.loads(sys.argv[3])).serve()


if __name__ == "__main__":
    main()
