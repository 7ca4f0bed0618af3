# SPDX-License-Identifier: Apache-2.0
"""The numbers: an OpenMetrics page that its own parser accepts."""

from __future__ import annotations

from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from vdsm import __version__
from vdsm.contract import VERBS
from vdsm.core.ports.meter import Meter
from vdsm.daemon.metrics import BUCKETS, Metrics


def samples(metrics: Metrics) -> list[Sample]:
    families = text_string_to_metric_families(metrics.page().decode())
    return [sample for family in families for sample in family.samples]


def value(found: list[Sample], name: str, **labels: str) -> float:
    (sample,) = (s for s in found if s.name == name and s.labels == labels)
    return float(sample.value)


def test_calls_are_counted_by_verb_and_timed_by_noun() -> None:
    metrics = Metrics()
    meter: Meter = metrics
    meter.observe("VM.pause", "ok", 0.02)
    meter.observe("VM.pause", "ok", 2.0)
    meter.observe("VM.getStats", "no-such-vm", 0.0001)
    found = samples(metrics)
    assert value(found, "vdsm_calls_total", method="VM.pause", verdict="ok") == 2
    assert value(found, "vdsm_calls_total", method="VM.getStats", verdict="no-such-vm") == 1
    assert value(found, "vdsm_call_seconds_bucket", noun="VM", le="0.1") == 2
    assert value(found, "vdsm_call_seconds_count", noun="VM") == 3
    assert value(found, "vdsm_build_info", version=__version__) == 1
    assert value(found, "process_resident_memory_bytes") > 1_000_000


def test_gauges_are_read_at_each_scrape() -> None:
    metrics, last = Metrics(), [41]
    metrics.gauge("vdsm_events_last_id", "The newest event.", lambda: last[0])
    metrics.gauges("vdsm_vms", "Machines by state.", "state", lambda: {"Up": 2, "Down": last[0]})
    assert value(samples(metrics), "vdsm_events_last_id") == 41
    last[0] = 42
    found = samples(metrics)
    assert value(found, "vdsm_events_last_id") == 42
    assert value(found, "vdsm_vms", state="Up") == 2
    assert value(found, "vdsm_vms", state="Down") == 42


def test_two_sets_of_metrics_do_not_meet() -> None:
    one, other = Metrics(), Metrics()
    one.observe("VM.pause", "ok", 0.02)
    assert not any(s.name == "vdsm_calls_total" for s in samples(other))


def test_a_page_of_every_verb_stays_small() -> None:
    metrics = Metrics()
    for verb in VERBS.values():
        for verdict in ("ok", "access-denied"):
            metrics.observe(verb.method, verdict, 0.01)
    page = metrics.page()
    nouns = {verb.method.partition(".")[0] for verb in VERBS.values()}
    assert len(page) < 4096 + 200 * len(VERBS) + 150 * (len(BUCKETS) + 3) * len(nouns)
