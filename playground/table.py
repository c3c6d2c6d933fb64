"""An answer before and after an edit, as HTML: what models and users say stands in it as text."""

from __future__ import annotations

from jinja2 import Environment

from editing.answer import Answered

# Colours are parts of the text's own, so that the table can be read on light and on dark paper.
_TABLE = Environment(autoescape=True).from_string("""
<style>
.answers { width: 100%; border-collapse: collapse; }
.answers th, .answers td { text-align: left; padding: .25rem .5rem; border: 0; width: 40%; }
.answers th:first-child { width: 20%; font-weight: normal; overflow-wrap: anywhere; }
.answers tbody tr { border-top: 1px solid rgba(128, 128, 128, .3); }
.answers caption { text-align: left; caption-side: top; color: inherit; font-weight: bold; }
.answers .text td { font-size: 1.25rem; overflow-wrap: anywhere; }
.answers .changed { font-weight: bold; }
.answers .bar { height: .5rem; background: rgba(128, 128, 128, .25); border-radius: .25rem; }
.answers .bar div { height: 100%; background: #4c72b0; border-radius: .25rem; }
.answers .after .bar div { background: #dd8452; }
</style>
<table class="answers">
<caption>{{ answer.question }}</caption>
<thead><tr><th></th><th>before</th><th>after</th></tr></thead>
<tbody>
<tr class="text"><th>answer</th><td class="before">{{ answer.unedited }}</td>
<td class="after{{ ' changed' if answer.text != answer.unedited }}">{{ answer.text }}</td></tr>
{% for one in answer.probabilities %}<tr class="probability"><th>{{ one.answer }}</th>
{% for when, value in (("before", one.before), ("after", one.after)) %}<td class="{{ when }}">\
{{ percent(value) }}<div class="bar"><div style="width: {{ (100 * value) | round(1) }}%"></div>\
</div></td>{% endfor %}</tr>
{% endfor %}</tbody></table>
""")
_LEAST = 0.0005


def percent(probability: float) -> str:
    """A probability for people.

    >>> percent(0.9876), percent(0.0004), percent(0.0)
    ('98.8 %', '< 0.1 %', '< 0.1 %')
    """
    return "< 0.1 %" if probability < _LEAST else f"{probability:.1%}".replace("%", " %")


def answer_table(answer: Answered) -> str:
    """Both answers, and under them the probability of each whole answer before and after."""
    return _TABLE.render(answer=answer, percent=percent)
