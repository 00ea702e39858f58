"""Fitting: linear solves, variable projection, Levenberg-Marquardt and first-order methods on weighted residuals."""

from composer.fit.fitting import fit
from composer.fit.gauges import gauges
from composer.fit.result import Fitted
from composer.fit.weights import Weights

__all__ = ["Fitted", "Weights", "fit", "gauges"]
