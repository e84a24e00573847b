"""The classroom: assignments that grade themselves, in the student's notebook and by the folder.

A student's notebook has `grader = Notebook("05-variational-autoencoders")` and checks each answer with
`grader.check("q1")`: the public tests ship with the package. A class is graded with `gentext grade`, which runs every
submission in a closed process of its own and asks it questions from outside, so that no submission sees a hidden test
or writes its own marks. Tests are functions of an environment, the same in both places.
"""

from gentext.classroom.answers import answer, close, fresh, gradients, raises
from gentext.classroom.assignment import Assignment, Question, Test
from gentext.classroom.check import Notebook

__all__ = ["Assignment", "Notebook", "Question", "Test", "answer", "close", "fresh", "gradients", "raises"]
