"""The search over expressions: a vocabulary, moves, ranks without fits, trials, a front, a journal and a report."""

from composer.search.archive import Trial, pareto
from composer.search.loop import search
from composer.search.result import Search
from composer.search.vocabulary import default_vocabulary

__all__ = ["Search", "Trial", "default_vocabulary", "pareto", "search"]
