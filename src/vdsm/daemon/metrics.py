# SPDX-License-Identifier: Apache-2.0
"""What is counted, for /metrics: calls by verb, their time by noun, and the host's machines, tasks and events."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.openmetrics import exposition

from vdsm import __version__

# Five, and by noun: 250 verbs with the usual fifteen would be 170 KiB at every scrape.
BUCKETS = (0.001, 0.01, 0.1, 1.0, 10.0)


_text: Callable[[CollectorRegistry], bytes] = exposition.generate_latest


class _Tally:
    """Of one verb and verdict; the buckets are those of all verbs of its noun."""

    __slots__ = ("buckets", "count", "seconds")

    def __init__(self, buckets: list[int]) -> None:
        self.count = 0
        self.seconds = 0.0
        self.buckets = buckets


class Metrics:
    """Implements the port `Meter`."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._calls: dict[tuple[str, str], _Tally] = {}
        self._times: dict[str, list[int]] = {}  # by noun: calls in each bucket, the last one without an end
        self._readings: list[Callable[[], Metric]] = []
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def observe(self, method: str, verdict: str, seconds: float) -> None:
        """One call of the verb `method` ended with `verdict` after `seconds`.

        Kept in plain numbers and made metrics at a scrape: the library's own objects cost a third of a small call.
        """
        tally = self._calls.get((method, verdict))
        if tally is None:
            buckets = self._times.setdefault(method.partition(".")[0], [0] * (len(BUCKETS) + 1))
            tally = self._calls[method, verdict] = _Tally(buckets)
        tally.count += 1
        tally.seconds += seconds
        tally.buckets[bisect_left(BUCKETS, seconds)] += 1

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Show what `read` says at each scrape."""
        self._readings.append(lambda: GaugeMetricFamily(name, text, value=read()))

    def gauges(self, name: str, text: str, label: str, read: Callable[[], Mapping[str, float]]) -> None:
        """Show what `read` says at each scrape, one value for each `label`."""

        def family() -> Metric:
            found = GaugeMetricFamily(name, text, labels=[label])
            for key, value in read().items():
                found.add_metric([key], value)
            return found

        self._readings.append(family)

    def counters(self, name: str, text: str, label: str, read: Callable[[], Mapping[str, float]]) -> None:
        """As `gauges`, of what only grows."""

        def family() -> Metric:
            found = CounterMetricFamily(name, text, labels=[label])
            for key, value in read().items():
                found.add_metric([key], value)
            return found

        self._readings.append(family)

    def collect(self) -> Iterator[Metric]:
        """For the registry."""
        yield InfoMetricFamily("vdsm_build", "The daemon.", value={"version": __version__})
        yield self._counted()
        yield self._timed()
        for reading in self._readings:
            yield reading()

    def _counted(self) -> Metric:
        found = CounterMetricFamily("vdsm_calls", "Calls by verb and what came of them.", labels=["method", "verdict"])
        for labels, tally in self._calls.items():
            found.add_metric(labels, tally.count)
        return found

    def _timed(self) -> Metric:
        found = HistogramMetricFamily("vdsm_call_seconds", "How long calls took.", labels=["noun"])
        for noun, buckets in self._times.items():
            seconds = sum(t.seconds for (method, _), t in self._calls.items() if method.partition(".")[0] == noun)
            ends = [*(str(end) for end in BUCKETS), "+Inf"]
            found.add_metric([noun], list(zip(ends, accumulate(buckets), strict=True)), sum_value=seconds)
        return found

    def page(self) -> bytes:
        """The text of an OpenMetrics page."""
        return _text(self._registry)
