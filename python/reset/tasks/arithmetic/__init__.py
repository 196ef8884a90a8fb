"""Generated word problems with gold reasoning: graded, seeded, without end.

A problem is drawn in three stages, each a module: *building* a :mod:`~reset.tasks.arithmetic.story` of amounts, *telling* it as text, and
*reasoning*, a correct trace of which every problem has very many:

>>> problem = generate(7, level=2)
>>> problem.answer, problem.key, problem.metadata["level"]
('248', '31*9-31', 2)
>>> one, other = trace(problem, seed=1), trace(problem, seed=2)
>>> one.final, one.thinking == other.thinking
('Thus the result is \\\\boxed{248}.', False)

Training draws from :func:`stream`; tests read the fixed splits of :class:`Arithmetic`. Both take their problems from disjoint sets: the
split is a function of the canonical expression, so no expression of the test split is ever streamed for training, under any names or
wording.
"""

from reset.tasks.arithmetic.generator import HIGHEST, LEVELS, SHARES, VERSION, Mix, generate, stream, trace
from reset.tasks.arithmetic.reasoning import Style, Trace, tokens
from reset.tasks.arithmetic.task import HARD, SIZES, Arithmetic

__all__ = [
    "HARD", "HIGHEST", "LEVELS", "SHARES", "SIZES", "VERSION", "Arithmetic", "Mix", "Style", "Trace",
    "generate", "stream", "tokens", "trace",
]  # fmt: skip
