"""The metrics of all workers: whichever is asked, it asks the others."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from deploylog.server.metrics import Metrics
from deploylog.server.workers import Worker

#: Seconds that another worker may take. One that is starting or stuck is left out.
_PATIENCE_SECONDS = 1.0

_SUFFIX = ".metrics"


class WorkerMetrics:
    """The metrics of every worker, told apart by the label ``worker``."""

    def __init__(self, own: Metrics, worker: Worker) -> None:
        self._own = own
        self._path = worker.folder / f"{worker.number}{_SUFFIX}"

    @asynccontextmanager
    async def answering(self) -> AsyncIterator[None]:
        """Answer the other workers inside the block."""
        # A worker that was killed leaves its socket.
        self._path.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._answer, path=self._path)
        try:
            yield
        finally:
            server.close()
            self._path.unlink(missing_ok=True)

    async def render(self) -> bytes:
        """Render the metrics of all workers in the Prometheus text format."""
        paths = sorted(self._path.parent.glob(f"*{_SUFFIX}"))
        answers = await asyncio.gather(*map(self._ask, paths))
        return merge({path.stem: text for path, text in zip(paths, answers, strict=True) if text})

    async def _ask(self, path: Path) -> str:
        """The metrics of a worker, or nothing if it does not answer."""
        if path == self._path:
            return self._own.render().decode()
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(_PATIENCE_SECONDS):
                reader, writer = await asyncio.open_unix_connection(path)
                try:
                    return (await reader.read()).decode()
                finally:
                    writer.close()
        return ""

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self._own.render())
        with suppress(OSError):
            await writer.drain()
        writer.close()


def merge(expositions: Mapping[str, str]) -> bytes:
    """One exposition of those of each worker."""
    registry = CollectorRegistry()
    registry.register(_Merged(expositions))
    return generate_latest(registry)


class _Merged(Collector):
    """The samples of several expositions, each with its worker."""

    def __init__(self, expositions: Mapping[str, str]) -> None:
        self._expositions = expositions

    def collect(self) -> Iterable[Metric]:
        families: dict[str, Metric] = {}
        for worker, text in self._expositions.items():
            for family in text_string_to_metric_families(text):
                new = Metric(family.name, family.documentation, family.type)
                samples = families.setdefault(family.name, new).samples
                for sample in family.samples:
                    samples.append(sample._replace(labels={**sample.labels, "worker": worker}))
        return families.values()
