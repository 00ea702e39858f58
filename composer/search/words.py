"""The words of a search that can be used, and the study of its data."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from composer.algebra import Expression, Sum
from composer.data import Data
from composer.errors import ComposerError
from composer.fit.weights import Weights
from composer.model import Model
from composer.search.candidate import key_of
from composer.search.cover import covers
from composer.search.journal import Journal
from composer.search.plan import Bank
from composer.search.polynomial import leaves
from composer.search.progress import Progress
from composer.search.settings import Settings
from composer.search.study import Study, at_home
from composer.search.vocabulary import core
from composer.search.workers import Workers

FACTOR = 3  # most numbers of a factor (1 + X)


@dataclass(eq=False)
class Words:
    """The vocabulary as far as its programs can be written and its kernels built; what cannot is told and written down."""

    data: Data
    settings: Settings
    workers: Workers
    progress: Progress
    journal: Journal

    @cached_property
    def study(self) -> Study:
        """Data, folds and covers."""
        fold = self.data.fold_of(self.settings.folds, self.settings.by, self.settings.seed)
        everyone = [*self.sound, *([self.settings.start] if self.settings.start is not None else [])]
        reach = max((Model(t, self.data.species).cutoff for word in everyone for t in word.terms()), default=5.0)
        repels = Sum.of([(1.0, w) for w in core(self.sound)])
        held = repels if repels.terms() else None
        shape = self.settings.weights or Weights()
        return at_home(Study(self.data, shape, fold, tuple(covers(everyone, self.data.species)), reach, held))

    @cached_property
    def sound(self) -> list[Expression]:
        """The words that are small enough and whose programs can be written, in canonical order."""
        found, large = [], 0
        for word in sorted({w.canonical: w for w in self.settings.vocabulary}.values(), key=lambda w: w.canonical):
            try:
                model = Model(word, self.data.species)
                if model.size > self.settings.max_parameters:
                    large += 1
                    continue
                model.program("forces")
                found.append(word)
            except ComposerError as error:
                self._leave_out(word, str(error))
        self.progress.say(f"{large} words alone hold more than {self.settings.max_parameters} numbers" if large else "")
        return found

    @cached_property
    def usable(self) -> list[Expression]:
        """The words whose kernels can be built."""
        self.progress.say(f"search: {len(self.sound)} words, {len(self.data)} frames; kernels are being built")
        broken = Bank(self.study.sample, self.sound).build()
        found = []
        for word in self.sound:
            digests = [d for leaf in self.study.leaves.of(word).values() for d in (leaf.digest, leaf.source.digest)]
            lost = [broken[d] for d in digests if d in broken]
            if lost:
                self._leave_out(word, lost[0])
            else:
                found.append(word)
        return found

    @cached_property
    def bank(self) -> Bank:
        """Columns of the words that depend on no number."""
        return Bank(self.study.sample, self.usable, self.workers.map)

    def small(self, word: Expression) -> bool:
        """Whether a word may be a factor."""
        return sum(self.study.leaves[leaf].size for leaf in leaves(word).values()) <= FACTOR * len(self.data.species) ** 2

    def _leave_out(self, word: Expression, reason: str) -> None:
        """Tell once that a word cannot be used."""
        if self.journal.find("left out", key_of(word)) is None:
            self.journal.append("left out", {"key": key_of(word), "expression": word.data(), "reason": reason})
        self.progress.say(f"left out: {word}: {reason}")
