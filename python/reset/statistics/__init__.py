"""Statistics of sampled evaluations: estimates, intervals, paired tests, corrections, power. Pure functions of counts.

Nothing here knows of models, tasks or files. Arms are compared on the same problems, so the unit is the problem, never the sample.
``docs/statistics.md`` says which number is computed how, with the simulated coverage of every interval.
"""

from __future__ import annotations

from reset.statistics.contrasts import Interaction, interaction
from reset.statistics.differences import clustered_difference, paired_proportions
from reset.statistics.estimators import average, majority_at, pass_at
from reset.statistics.intervals import Interval, accuracy_interval, clustered_mean, wilson
from reset.statistics.multiple import holm
from reset.statistics.pairs import Paired, paired, verdict
from reset.statistics.planning import Power, power, smallest_detectable
from reset.statistics.significance import mcnemar, sign_flip

__all__ = [
    "Interaction",
    "Interval",
    "Paired",
    "Power",
    "accuracy_interval",
    "average",
    "clustered_difference",
    "clustered_mean",
    "holm",
    "interaction",
    "majority_at",
    "mcnemar",
    "paired",
    "paired_proportions",
    "pass_at",
    "power",
    "sign_flip",
    "smallest_detectable",
    "verdict",
    "wilson",
]
