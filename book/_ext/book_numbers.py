"""Number a chapter by its file name: `04-autoencoders` is chapter 4, with section 4.1, equation (4.2), exercise 4.3.

Sphinx would number the chapters 1, 2, 3 in the order of the table of contents. Chapters are written in any order here
and only those that exist are listed, so a chapter keeps its number for good only if it comes from its name.
"""

from __future__ import annotations

import re

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx_external_toc.collectors import TocTreeCollectorWithStyles as Collector

CHAPTER = re.compile(r"(?:.*/)?(\d\d)-[a-z0-9-]+$")
assign_in_order = Collector.assign_section_numbers


def assign_by_name(self: Collector, env: BuildEnvironment) -> list[str]:
    """Let the collector number everything, then put each chapter's own number in front."""
    changed = assign_in_order(self, env)
    for docname, numbers in env.toc_secnumbers.items():
        match = CHAPTER.fullmatch(docname)
        if match is None:
            continue
        chapter = int(match.group(1))
        for anchor, number in numbers.items():
            if number:
                numbers[anchor] = (chapter, *number[1:])
        env.titles[docname]["secnumber"] = [chapter]
        for reference in env.tocs[docname].findall(nodes.reference):
            if reference.get("secnumber"):
                reference["secnumber"] = [chapter, *reference["secnumber"][1:]]
    return changed


def setup(app: Sphinx) -> dict[str, bool]:
    Collector.assign_section_numbers = assign_by_name
    return {"parallel_read_safe": True, "parallel_write_safe": True}
