"""Spans and metrics that are kept in memory, and what tests ask of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    HistogramDataPoint,
    InMemoryMetricReader,
    Metric,
    NumberDataPoint,
)
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext

from bms_async import Telemetry


class Recorder:
    """Providers that keep everything, and a `Telemetry` that uses them.

    Attributes:
        telemetry: The hook.
        tracers: The tracer provider.
        meters: The meter provider.
    """

    def __init__(self) -> None:
        self._exporter, self._reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.meters = MeterProvider([self._reader], shutdown_on_exit=False)
        self.telemetry = Telemetry(self.tracers, self.meters)
        self._metrics: dict[str, Metric] = {}

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        return self._exporter.get_finished_spans()

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name == name]

    def below(self, parent: ReadableSpan) -> list[ReadableSpan]:
        return [span for span in self.spans if span.parent is not None and span.parent.span_id == id_of(parent)]

    def metric(self, name: str) -> Metric:
        # Until 1.44 the SDK reports a gauge once for each time that it is set.
        data = self._reader.get_metrics_data()
        for resource in data.resource_metrics if data is not None else ():
            self._metrics |= {metric.name: metric for scope in resource.scope_metrics for metric in scope.metrics}
        return self._metrics[name]

    def values(self, name: str) -> dict[tuple[tuple[str, Any], ...], float]:
        """The value of each series of a metric, by its attributes; for a histogram, how many were recorded."""
        return {
            tuple(sorted((point.attributes or {}).items())): (
                point.count if isinstance(point, HistogramDataPoint) else _number(point)
            )
            for point in self.metric(name).data.data_points
        }


def context_of(span: ReadableSpan) -> SpanContext:
    context = span.get_span_context()
    assert context is not None
    return context


def id_of(span: ReadableSpan) -> int:
    return context_of(span).span_id


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def _number(point: Any) -> float:
    assert isinstance(point, NumberDataPoint)
    return point.value
