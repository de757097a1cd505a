"""How often to ask what: label rates and yes/no odds that make both answers equally frequent.

An attribute's odds go as 1 / rate of the value; `label_rates` balances within each source (the look of a
data set gives nothing away) and corrects the odds for values that come together, such as all beards.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from unif2ace_core.data.attributes import BY_NAME
from unif2ace_core.data.sources import FaceRecord
from unif2ace_core.data.wordings import ASKED

Rates = Mapping[str, Mapping[str, float]]


class _Sample:
    """Every n-th of the labels that come by, n doubled as often as there are too many."""

    def __init__(self) -> None:
        self.kept: list[Mapping[str, str]] = []
        self.seen, self.step = 0, 1

    def add(self, labels: Mapping[str, str]) -> None:
        """One record's labels."""
        if self.seen % self.step == 0:
            self.kept.append(labels)
            if len(self.kept) > _SAMPLE:
                self.kept, self.step = self.kept[::2], 2 * self.step
        self.seen += 1


class LabelRates(dict[str, dict[str, float]]):
    """attribute -> value -> share among known labels, over all records.

    `by_source` holds each source's own shares, `odds` each source's balanced odds of a yes/no question.
    """

    def __init__(
        self, total: Mapping[str, dict[str, float]], by_source: Mapping[str, Rates], odds: Mapping[str, Rates]
    ) -> None:
        super().__init__(total)
        self.by_source = dict(by_source)
        self.odds = dict(odds)

    def lifted(self, factors: Mapping[str, float]) -> LabelRates:
        """The same with some attributes asked about so many times as often, yes and no alike."""
        odds = {
            source: {name: {v: o * factors.get(name, 1.0) for v, o in values.items()} for name, values in own.items()}
            for source, own in self.odds.items()
        }
        return LabelRates(self, self.by_source, odds)


def label_rates(records: Iterable[FaceRecord]) -> LabelRates:
    """Shares of the values among the records in which the attribute is known; memory does not grow with them."""
    labels: dict[str, _Sample] = defaultdict(_Sample)
    counts: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for record in records:
        own = counts[record.source]
        labels[record.source].add(record.labels)
        for name, value in record.labels.items():
            own[name][value] += 1
    total: dict[str, Counter[str]] = defaultdict(Counter)
    for own in counts.values():
        for name, values in own.items():
            total[name] += values
    by_source = {source: _shares(own) for source, own in counts.items()}
    odds = {source: _balanced_odds(labels[source].kept, rates) for source, rates in by_source.items()}
    return LabelRates(_shares(total), by_source, odds)


def _shares(counts: Mapping[str, Counter[str]]) -> dict[str, dict[str, float]]:
    return {
        name: {value: values[value] / values.total() for value in BY_NAME[name].values if values[value]}
        for name, values in counts.items()
    }


_LEAST_RATE = 0.004  # a source that knows but one value of an attribute is not asked about it
_RARE = -0.85  # exponent: how much a rare attribute is lifted, -1 asks all attributes equally often
_SAMPLE = 12000  # most records of a source that are looked at for the balance
_DRAWS = 1.7  # yes/no questions per call that the balance reckons with
_ROUNDS = 40
_BEARDS = frozenset({"No_Beard", "Goatee", "Mustache", "Sideburns", "5_o_Clock_Shadow", "Wearing_Necktie"})
_PAINT = frozenset({"Heavy_Makeup", "Wearing_Lipstick", "Wearing_Earrings"})


def relevance(name: str, labels: Mapping[str, str]) -> float:
    """Less of what the gender alone would answer, so that the face has to be looked at."""
    male = labels.get("Male")
    return 0.4 if (male == "no" and name in _BEARDS) or (male == "yes" and name in _PAINT) else 1.0


def plain_odds(name: str, value: str, rates: Rates) -> float:
    """Odds of asking about a value of this rate, were attributes independent."""
    rate = min(max(rates.get(name, {}).get(value, 0.5), 1e-6), 1.0)
    rare = min(rate, 1.0 - rate)
    return ASKED[name].weight * rare / rate * rare**_RARE if rare >= _LEAST_RATE else 0.0


def _balanced_odds(labels: list[Mapping[str, str]], rates: Rates) -> dict[str, dict[str, float]]:
    """Odds per value such that yes and no are asked equally often although rare values come together.

    Fixed point: with odds o of the known values of a face, a question is asked with probability
    1 - (1 - o / sum o)^draws; each attribute's two odds are moved until both sides' sums agree.
    """
    import numpy as np

    names = [name for name in ASKED if plain_odds(name, "yes", rates) > 0 and name in rates]
    known = [[row.get(name) for name in names] for row in labels]
    sides = {value: np.array([[v == value for v in row] for row in known]) for value in ("yes", "no")}
    weight = np.array([[relevance(name, row) for name in names] for row in labels])
    odds = {value: np.array([plain_odds(name, value, rates) for name in names]) for value in sides}
    if not names:
        return {}
    for _ in range(_ROUNDS):
        each = weight * (sides["yes"] * odds["yes"] + sides["no"] * odds["no"])
        asked = 1.0 - (1.0 - each / np.maximum(each.sum(1, keepdims=True), 1e-9)) ** _DRAWS
        total = {value: np.maximum((asked * side).sum(0), 1e-9) for value, side in sides.items()}
        move = (total["yes"] / total["no"]) ** 0.3
        odds = {"yes": odds["yes"] / move, "no": odds["no"] * move}
    found = {name: {v: float(odds[v][i]) for v in odds} for i, name in enumerate(names)}
    return {name: found.get(name, {}) for name in ASKED}
