"""The search index without whole numbers: the search field passes over them, so that no reader ever meets them.

Notebooks are full of numbers, and every reader who searches loads the index whole.
"""

from __future__ import annotations

from sphinx.application import Sphinx
from sphinx.search.en import SearchEnglish


class SearchWords(SearchEnglish):
    """English, whose words are not made of digits alone."""

    def word_filter(self, word: str) -> bool:
        return not word.isdecimal() and super().word_filter(word)


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_search_language(SearchWords)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
