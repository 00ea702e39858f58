"""Fisher information of a model on data: what the data determine, what each term is worth, what to compute next."""

from composer.fisher.bars import ErrorBars
from composer.fisher.boundary import Boundary
from composer.fisher.report import FisherReport, fisher
from composer.fisher.suggestion import Suggestion, suggest
from composer.fisher.worth import TermReport

__all__ = ["Boundary", "ErrorBars", "FisherReport", "Suggestion", "TermReport", "fisher", "suggest"]
