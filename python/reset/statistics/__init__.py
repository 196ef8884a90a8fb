"""Statistics of sampled evaluations: estimates, intervals, paired tests, corrections, power. Pure functions of counts.

Nothing here knows of models, tasks or files. Arms are compared on the same problems, so the unit is the problem, never the sample.
``docs/statistics.md`` says which number is computed how, with the simulated coverage of every interval.
"""

from __future__ import annotations

from reset.statistics.estimators import average, majority_at, pass_at
from reset.statistics.intervals import Interval, clustered_mean, wilson

__all__ = [
    "Interval",
    "average",
    "clustered_mean",
    "majority_at",
    "pass_at",
    "wilson",
]
