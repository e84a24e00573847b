"""The grader's side: asks a submission's process for answers, and holds the tests and the marks.

A test sees an environment, as it does in the student's notebook. Here its names are looked up, and its functions
called, in the other process; only values come back.
"""

from __future__ import annotations

import builtins
import os
import select
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from gentext.classroom.answers import refuse_borrowed
from gentext.classroom.assignment import Assignment
from gentext.classroom.check import Score, run_question
from gentext.classroom.codec import Nonsense, decode, encode, frame, receive
from gentext.classroom.sandbox import Limits, Sandbox


class Gone(BaseException):
    """The submission's process has ended, or had to be ended. No test may take it for a wrong answer."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class AnswerError(AssertionError):
    """The student's function raised, and nothing that a test waits for."""


@dataclass
class Outcome:
    """What became of a submission.

    Attributes:
        status: "graded"; "timed out", "out of memory", "too many processes", "crashed" for a process that ended.
        reason: in words, empty if all went well; for a graded one, the cells that raised.
        scores: of the questions that were reached; complete if graded.
        guarded: what the system kept the process from, such as "network".
    """

    status: str
    reason: str
    scores: list[Score] = field(default_factory=list)
    seconds: float = 0.0
    guarded: tuple[str, ...] = ()


class Channel:
    """Messages to and from the process, within the time that is left."""

    def __init__(self, sandbox: Sandbox, limits: Limits) -> None:
        self.sandbox = sandbox
        self.deadline = time.monotonic() + limits.seconds
        self.callbacks: list[Callable[..., Any]] = []

    def wait(self, pipe: int, direction: int) -> bool:
        """Whether the pipe is ready, looked at for a fifth of a second. Raises Gone when time or a limit is over."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise Gone("timed out", f"it was still running after {self.sandbox.limits.seconds:g} seconds")
        poll = select.poll()  # which, unlike select, knows descriptors beyond 1023
        poll.register(pipe, direction)
        ready = poll.poll(1000 * min(left, 0.2))
        broken = self.sandbox.excess()
        if broken is not None:
            raise Gone(*broken)
        return bool(ready)

    def read(self, count: int) -> bytes:
        pieces: list[bytes] = []
        while count:
            if self.wait(self.sandbox.inward, select.POLLIN):
                piece = os.read(self.sandbox.inward, min(count, 1 << 20))
                if not piece:
                    raise Gone(*self.sandbox.end())
                pieces.append(piece)
                count -= len(piece)
        return b"".join(pieces)

    def send(self, message: dict[str, Any]) -> None:
        """Write a message; a process that does not read it cannot keep us waiting."""
        left = memoryview(frame(message))
        while left:
            if self.wait(self.sandbox.outward, select.POLLOUT):
                left = left[os.write(self.sandbox.outward, left) :]  # it does not block: as much as there is room for

    def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        """Send, answer the callbacks that come in between, and return the reply. Raises Gone."""
        try:
            self.send(message)
            while True:
                reply = receive(self.read)
                if not isinstance(reply, dict):
                    raise Nonsense("a reply must be a dictionary")
                if "callback" not in reply:
                    return reply
                self.send(self.called_back(reply))
        except BrokenPipeError:
            raise Gone(*self.sandbox.end()) from None
        except Nonsense as error:
            raise Gone(*nonsense(error)) from None

    def called_back(self, message: dict[str, Any]) -> dict[str, Any]:
        try:
            function = self.callbacks[int(message["callback"])]
            args, kwargs = decode(message["args"], self.resolve), decode(message["kwargs"], self.resolve)
            return {"value": encode(function(*args, **kwargs), self.refer)}
        except Nonsense:
            raise
        except Exception as error:
            return {"error": type(error).__name__, "message": str(error)[:2000]}

    def refer(self, value: Any) -> dict[str, Any]:
        if isinstance(value, Remote):
            return {"object": value._number}
        if callable(value):
            self.callbacks.append(value)
            return {"callback": len(self.callbacks) - 1}
        raise ValueError(f"a test cannot hand over a {type(value).__name__}: only numbers, tensors, functions")

    def resolve(self, data: dict[str, Any]) -> Any:
        if not isinstance(data.get("object"), int):
            raise Nonsense("a reference without a number")
        return Remote(self, data["object"], str(data.get("type", "object"))[:100])

    def value(self, message: dict[str, Any], name: str) -> Any:
        """The value of a reply; what the student's code raised is raised here, if Python has such an error."""
        reply = self.ask(message)
        if "error" in reply:
            kind, text = str(reply["error"]), str(reply.get("message", ""))
            known = getattr(builtins, kind, None)
            place = f" ({reply['where']})" if reply.get("where") else ""
            if isinstance(known, type) and issubclass(known, Exception) and not issubclass(known, UnicodeError):
                raise known(f"{text}{place}")
            raise AnswerError(f"`{name}` raised {kind}: {text}{place}")
        refuse_borrowed(name, [str(one)[:200] for one in reply.get("seen", [])])
        try:
            return decode(reply.get("value"), self.resolve)
        except Nonsense as error:
            raise Gone(*nonsense(error)) from None


def nonsense(error: Exception) -> tuple[str, str]:
    """Status and reason of a process that sends what no worker of ours would."""
    return "crashed", f"its process sent what no answer is: {str(error)[:200]}"


class Remote:
    """A function or object in the submission's process."""

    def __init__(
        self, channel: Channel, number: int, name: str, allow: tuple[str, ...] = (), banned: tuple[str, ...] = ()
    ) -> None:
        self._channel, self._number, self._name, self._allow, self._banned = channel, number, name, allow, banned

    def watched_from_afar(self, name: str, allow: tuple[str, ...], banned: tuple[str, ...]) -> Remote:
        return Remote(self._channel, self._number, name, allow, banned)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._called(args, kwargs)

    def gradients_from_afar(self, *args: Any, **kwargs: Any) -> Any:
        return self._called(args, kwargs, gradients=True)

    def _called(self, args: tuple[Any, ...], kwargs: dict[str, Any], gradients: bool = False) -> Any:
        refer = self._channel.refer
        sent = {"args": encode(args, refer), "kwargs": encode(kwargs, refer), "gradients": gradients}
        rules = {"allow": self._allow, "banned": self._banned}
        return self._channel.value({"do": "call", "object": self._number, **sent, **rules}, self._name)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._channel.value({"do": "attribute", "object": self._number, "name": name}, f"{self._name}.{name}")


class RemoteEnv(Mapping[str, Any]):
    """The names of a submission that has run."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.names = [str(name) for name in channel.ask({"do": "names"}).get("names", [])]

    def __getitem__(self, name: str) -> Any:
        if name not in self.names:
            raise KeyError(name)
        return self.channel.value({"do": "get", "name": name}, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def judge(cells: list[str], assignment: Assignment, limits: Limits, hide: tuple[str, ...] = ()) -> Outcome:
    """Run a submission's cells in a process of their own, and mark what it answers.

    Args:
        assignment: with the hidden tests, of the variant that the class had.
        hide: folders and files that the process must not read, where the system can hide them.
    """
    began = time.monotonic()
    outcome = Outcome("graded", "")
    with Sandbox(limits, hide) as sandbox:
        channel = Channel(sandbox, limits)
        try:
            outcome.guarded = tuple(channel.ask({"do": "guards"}).get("guards", ()))
            report = channel.ask({"do": "run", "cells": cells, "seconds": limits.cell_seconds})
            outcome.reason = told(report.get("errors", []))
            env = RemoteEnv(channel)
            for question in assignment.automatic:
                outcome.scores.append(run_question(question, env))
        except Gone as gone:
            outcome.status, outcome.reason = gone.status, gone.reason
        except (AttributeError, KeyError, TypeError, ValueError) as error:  # a reply of another form, outside a test
            outcome.status, outcome.reason = nonsense(error)
    outcome.seconds = time.monotonic() - began
    return outcome


def told(errors: list[dict[str, Any]]) -> str:
    cells = [f"cell {one['cell'] + 1}: {one['error']}: {one['message']}".splitlines()[0][:200] for one in errors[:3]]
    more = f" and {len(errors) - 3} more" if len(errors) > 3 else ""
    return f"{'; '.join(cells)}{more}"
