"""How results show in a notebook and as pages of their own: HTML without scripts.

============================  ==============================================================================================
:func:`generation_html`       a text, token by token: coloured by entropy, underlined where the temperature was high, in steps
:func:`generation_page`       the same as one self-contained file, for ``Generation.save_html``
:func:`model_html`            a loaded model: architecture, formats, bytes
:func:`result_html`           an evaluation: accuracy, interval, outcomes
:func:`comparison_html`       two arms and the paired difference
:func:`study_html`            arms and contrasts of a study
============================  ==============================================================================================

The objects call these from ``_repr_html_``. Three rules hold everywhere: what models and files wrote is escaped; nothing is said by colour
alone; and colours are laid over whatever background and ink the page has, so that light and dark themes need no detection.
"""

from __future__ import annotations

from reset.views.generation import generation_html, generation_page
from reset.views.tables import comparison_html, model_html, result_html, study_html

__all__ = ["comparison_html", "generation_html", "generation_page", "model_html", "result_html", "study_html"]
