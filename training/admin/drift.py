"""Whether what comes in still is what used to: findings, quality, devices and rates over time.

The last ECGs are held against a reference period before them. A share counts as changed where
a chi-square or Kolmogorov-Smirnov test finds it so at a level that allows for the number of
questions (Bonferroni), and the change is large enough to matter. It is a reason to look, no
more: another ward, another cart and another season change it too.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
import sqlalchemy as sa
from scipy import stats

from dicom_node.ledger import Ledger
from dicom_node.settings import Drift as Thresholds
from training.admin.tables import recordings, spoken

RECENT: Final = 500
"""ECGs that are held against the reference."""
REFERENCE: Final = 5000
"""ECGs before them, at the most."""
FEWEST: Final = 100
"""ECGs that either period needs."""
_RATE_MATTERS: Final = 0.2
"""Largest distance between two distributions of the heart rate (Kolmogorov-Smirnov)."""
_SHOWN: Final = 40
_SOME: Final = 10
_DEFAULT: Final = Thresholds()


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One share, then and now."""

    kind: str
    """`statement`, `quality`, `device`, `overall` or `heart-rate`."""
    name: str
    before: float
    """Share of the reference period; for the heart rate the median, in beats per minute."""
    now: float
    p: float
    alert: bool

    @property
    def sentence(self) -> str:
        """What has changed."""
        if self.kind == "heart-rate":
            return f"The heart rate has changed: median {self.before:.0f}, now {self.now:.0f} /min."
        return (
            f"The {self.kind} {self.name} has changed: {self.before:.1%} before, "
            f"{self.now:.1%} now."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """What has changed, and from what that is known."""

    recent: int
    reference: int
    changes: tuple[Change, ...]
    """The least likely first."""

    @property
    def alerts(self) -> tuple[str, ...]:
        """A sentence for each change that is to be looked at."""
        return tuple(change.sentence for change in self.changes if change.alert)


@dataclass(frozen=True, slots=True)
class _Period:
    """Some ECGs."""

    rows: Sequence[Mapping[str, Any]]
    statements: Counter[str]

    def shares(self, kind: str) -> Counter[str]:
        if kind == "statement":
            return self.statements
        return Counter(str(row[kind]) for row in self.rows if row[kind])

    @property
    def rates(self) -> list[float]:
        return [row["heart_rate"] for row in self.rows if row["heart_rate"] is not None]


def drift(ledger: Ledger, thresholds: Thresholds = _DEFAULT) -> Drift:
    """Return how the last ECGs differ from those before them."""
    now, before = _periods(ledger)
    if min(len(now.rows), len(before.rows)) < FEWEST:
        return Drift(recent=len(now.rows), reference=len(before.rows), changes=())
    found = [*_shares(now, before, thresholds.share), *_rates(now, before)]
    level = thresholds.significance / max(1, len(found))
    judged = [
        Change(kind=kind, name=name, before=b, now=n, p=p, alert=p < level and large)
        for kind, name, b, n, p, large in found
    ]
    return Drift(
        recent=len(now.rows),
        reference=len(before.rows),
        changes=tuple(sorted(judged, key=lambda change: (not change.alert, change.p))[:_SHOWN]),
    )


def latest(ledger: Ledger, thresholds: Thresholds) -> Drift:
    """Return the same, asked anew whenever some more ECGs were analysed: pages ask often."""
    ((newest,),) = ledger.query(sa.select(sa.func.max(recordings.c.instance_id)))
    return _latest(ledger, thresholds, (newest or 0) // _SOME)


@lru_cache(maxsize=4)
def _latest(ledger: Ledger, thresholds: Thresholds, _newest: int) -> Drift:
    return drift(ledger, thresholds)


def _periods(ledger: Ledger) -> tuple[_Period, _Period]:
    """Return the last ECGs, and the reference before them."""
    names = ("instance_id", "device", "quality", "overall", "heart_rate")
    query = (
        sa.select(*(recordings.c[name] for name in names))
        .where(recordings.c.analysed)
        .order_by(recordings.c.instance_id.desc())
        .limit(RECENT + REFERENCE)
    )
    rows = [dict(zip(names, row, strict=True)) for row in ledger.query(query)]
    return _period(ledger, rows[:RECENT]), _period(ledger, rows[RECENT:])


def _period(ledger: Ledger, rows: Sequence[Mapping[str, Any]]) -> _Period:
    if not rows:
        return _Period((), Counter())
    first, last = rows[-1]["instance_id"], rows[0]["instance_id"]
    query = (
        sa.select(spoken.c.key, sa.func.count())
        .where(spoken.c.instance_id.between(first, last))
        .group_by(spoken.c.key)
    )
    return _Period(rows, Counter({str(key): int(count) for key, count in ledger.query(query)}))


_Found = tuple[str, str, float, float, float, bool]


def _shares(now: _Period, before: _Period, matters: float) -> Iterator[_Found]:
    sizes = len(now.rows), len(before.rows)
    for kind in ("statement", "quality", "overall", "device"):
        counts = now.shares(kind), before.shares(kind)
        for name in sorted(counts[0].keys() | counts[1].keys()):
            ours = [count[name] for count in counts]
            table = [[have, size - have] for have, size in zip(ours, sizes, strict=True)]
            if min(sum(column) for column in zip(*table, strict=True)) == 0:
                continue  # all, or none, in both
            p = float(stats.chi2_contingency(table).pvalue)
            share, was = (have / size for have, size in zip(ours, sizes, strict=True))
            yield kind, name, was, share, p, abs(share - was) >= matters


def _rates(now: _Period, before: _Period) -> Iterator[_Found]:
    if now.rates and before.rates:
        found = stats.ks_2samp(now.rates, before.rates)
        was, middle = (float(np.median(rates)) for rates in (before.rates, now.rates))
        large = float(found.statistic) >= _RATE_MATTERS
        yield "heart-rate", "heart rate", was, middle, float(found.pvalue), large
