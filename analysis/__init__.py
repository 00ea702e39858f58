"""Fisher information, prices of terms, criteria, error bars and pictures: arrays in, arrays out.

Rows of a Jacobian, weighted by their noise, become triangular factors (`factorize`, `stream`); factors are combined
(`combine`), solved (`solve`) and asked (`fisher_spectrum`, `wald_prices`, `score_gains`, `leave_one_out`, `sandwich_root`, ...).
Nothing is imported before it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .boundary import Geodesic, geodesic
    from .criteria import aic, aicc, bic, effective_count, evidence, tic, tic_trace
    from .design import Choice, choose, information_matching, information_root
    from .factors import Factor, combine, factorize, group_by, merge, penalty, stream, weigh
    from .fisher import Coordinates, coordinates, gauge_defect, information, null_space, term_blocks, unit_free
    from .plots import pareto_front, plot_energy_volume, plot_pareto, plot_parity, plot_spectrum, plot_term_correlation
    from .selection import Gain, score_gains, wald_prices
    from .solution import Solution, held_out, leave_one_out, leave_one_out_residual, ridge_prior, scores, solve, term_dof
    from .spectrum import Spectrum, bootstrap, fisher_spectrum, gram_spectrum, principal_angles, term_angles
    from .uncertainty import conformal_scale, covered, envelope, naive_root, pointwise_optimal, propagate, sandwich_root

_NAMES = {
    "boundary": "Geodesic geodesic",
    "criteria": "aic aicc bic effective_count evidence tic tic_trace",
    "design": "Choice choose information_matching information_root",
    "factors": "Factor combine factorize group_by merge penalty stream weigh",
    "fisher": "Coordinates coordinates gauge_defect information null_space term_blocks unit_free",
    "plots": "pareto_front plot_energy_volume plot_pareto plot_parity plot_spectrum plot_term_correlation",
    "selection": "Gain score_gains wald_prices",
    "solution": "Solution held_out leave_one_out leave_one_out_residual ridge_prior scores solve term_dof",
    "spectrum": "Spectrum bootstrap fisher_spectrum gram_spectrum principal_angles term_angles",
    "uncertainty": "conformal_scale covered envelope naive_root pointwise_optimal propagate sandwich_root",
}
_HOME = {name: module for module, names in _NAMES.items() for name in names.split()}
__all__ = [
    "Geodesic",
    "geodesic",
    "aic",
    "aicc",
    "bic",
    "effective_count",
    "evidence",
    "tic",
    "tic_trace",
    "Choice",
    "choose",
    "information_matching",
    "information_root",
    "Factor",
    "combine",
    "factorize",
    "group_by",
    "merge",
    "penalty",
    "stream",
    "weigh",
    "Coordinates",
    "coordinates",
    "gauge_defect",
    "information",
    "null_space",
    "term_blocks",
    "unit_free",
    "pareto_front",
    "plot_energy_volume",
    "plot_pareto",
    "plot_parity",
    "plot_spectrum",
    "plot_term_correlation",
    "Gain",
    "score_gains",
    "wald_prices",
    "Solution",
    "held_out",
    "leave_one_out",
    "leave_one_out_residual",
    "ridge_prior",
    "scores",
    "solve",
    "term_dof",
    "Spectrum",
    "bootstrap",
    "fisher_spectrum",
    "gram_spectrum",
    "principal_angles",
    "term_angles",
    "conformal_scale",
    "covered",
    "envelope",
    "naive_root",
    "pointwise_optimal",
    "propagate",
    "sandwich_root",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'analysis' has no attribute {name!r}. It offers {', '.join(sorted(_HOME))}. Use one of these names.")
    value = getattr(import_module(f"analysis.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
