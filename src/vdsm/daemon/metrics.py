# SPDX-License-Identifier: Apache-2.0
"""What is counted, for /metrics: calls by verb, their time by noun, and the host's machines, tasks and events."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.openmetrics import exposition

from vdsm import __version__

# Five, and by noun: 250 verbs with the usual fifteen would be 170 KiB at every scrape.
BUCKETS = (0.001, 0.01, 0.1, 1.0, 10.0)


_text: Callable[[CollectorRegistry], bytes] = exposition.generate_latest


class Metrics:
    """Implements the port `Meter`."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._calls = Counter(
            "vdsm_calls", "Calls by verb and what came of them.", ["method", "verdict"], registry=self._registry
        )
        self._seconds = Histogram(
            "vdsm_call_seconds", "How long calls took.", ["noun"], buckets=BUCKETS, registry=self._registry
        )
        self._counted: dict[tuple[str, str], Counter] = {}
        self._timed: dict[str, Histogram] = {}
        self._readings: list[Callable[[], Metric]] = []
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def observe(self, method: str, verdict: str, seconds: float) -> None:
        """One call of the verb `method` ended with `verdict` after `seconds`."""
        counter = self._counted.get((method, verdict))
        if counter is None:
            counter = self._counted[method, verdict] = self._calls.labels(method, verdict)
        counter.inc()
        noun = method.partition(".")[0]
        histogram = self._timed.get(noun)
        if histogram is None:
            histogram = self._timed[noun] = self._seconds.labels(noun)
        histogram.observe(seconds)

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

    def collect(self) -> Iterator[Metric]:
        """For the registry."""
        yield InfoMetricFamily("vdsm_build", "The daemon.", value={"version": __version__})
        for reading in self._readings:
            yield reading()

    def page(self) -> bytes:
        """The text of an OpenMetrics page."""
        return _text(self._registry)
