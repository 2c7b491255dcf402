"""A receiver of OTLP over HTTP, on the official protobuf classes: what was really sent, parsed, and all of its bytes."""

import gzip
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

KINDS = {
    "/v1/traces": (ExportTraceServiceRequest, ExportTraceServiceResponse),
    "/v1/logs": (ExportLogsServiceRequest, ExportLogsServiceResponse),
    "/v1/metrics": (ExportMetricsServiceRequest, ExportMetricsServiceResponse),
}


class Receiver:
    """Listens on a free loopback port. ``open``: while it is not set, nothing is answered; ``status``: what is; ``refused`` counts others than 200."""

    def __init__(self):
        self.bodies, self.refused, self.open, self.status = [], 0, threading.Event(), 200
        self.open.set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                receiver.open.wait()
                if receiver.status == 200:
                    receiver.bodies.append((self.path, body))
                else:
                    receiver.refused += 1
                self.send_response(receiver.status)
                self.send_header("content-type", "application/x-protobuf")
                self.end_headers()
                self.wfile.write(KINDS[self.path][1]().SerializeToString())

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):  # an exporter that gave up
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.thread.start()

    def close(self):
        self.open.set()
        self.server.shutdown()
        self.server.server_close()

    @property
    def raw(self):
        return b"\0".join(body for _, body in self.bodies)

    def _all(self, path):
        return [KINDS[path][0].FromString(body) for at, body in self.bodies if at == path]

    @property
    def resources(self):
        return [dict(read(r.resource.attributes)) for one in self._all("/v1/traces") for r in one.resource_spans]

    @property
    def spans(self):
        """In the order of their beginnings."""
        found = [
            s for one in self._all("/v1/traces") for r in one.resource_spans for c in r.scope_spans for s in c.spans
        ]
        return [told(s, s.name) for s in sorted(found, key=lambda s: s.start_time_unix_nano)]

    @property
    def events(self):
        one = [
            e for one in self._all("/v1/logs") for r in one.resource_logs for c in r.scope_logs for e in c.log_records
        ]
        return [told(e, e.event_name) for e in one]

    @property
    def metrics(self):
        """The last of each: ``{name: [points]}``; a point's ``value`` is a sum, ``count`` that of a histogram."""
        found = {}
        for one in self._all("/v1/metrics"):
            for metric in (m for r in one.resource_metrics for c in r.scope_metrics for m in c.metrics):
                points = getattr(metric, metric.WhichOneof("data")).data_points
                found[metric.name] = [told(p, metric.unit) for p in points]
        return found


def told(message, name):
    return SimpleNamespace(name=name, of=message, attributes=dict(read(message.attributes)))


def read(attributes):
    for one in attributes:
        kind = one.value.WhichOneof("value")
        value = getattr(one.value, kind)
        yield one.key, [v.string_value for v in value.values] if kind == "array_value" else value
