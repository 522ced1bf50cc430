"""`python -m benchmarks [--rounds N] [--rows N]`: prints a line per path and writes benchmarks/results/paths.json."""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from benchmarks.drift import compare_with_evidently, in_parts
from benchmarks.measure import Comparison, compare, machine, write_results
from benchmarks.rows import Flights, flights
from monitoring.archive import Archive
from monitoring.consumer import StreamConsumer
from perennial.record import PredictionBatch, decode_prediction_batch, encode_batch
from perennial.row_encoder import compile_row_encoder
from service.prediction_log.redis_client import connect
from service.prediction_log.streams import append, predictions_stream
from tests.support.store import valkey

RESULTS = Path(__file__).resolve().parent / "results" / "paths.json"


def main() -> None:
    """Run all comparisons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="measured rounds of each comparison (default: 5)")
    parser.add_argument("--rows", type=int, default=50_000, help="rows of the table paths (default: 50,000)")
    given = parser.parse_args()
    found = [_shown(comparison) for comparison in _comparisons(flights(given.rows), given.rounds)]
    parts = in_parts()
    sys.stdout.write(f"drift of {parts['rows']:,.0f} rows in parts: {parts['cpu_seconds']:.1f} s, {parts['peak_mb']:.0f} MB\n")
    record = {"machine": machine(), "paths": [one.record() for one in found], "drift in parts": parts}
    write_results(RESULTS, record)


def _shown(comparison: Comparison) -> Comparison:
    sys.stdout.write(comparison.line() + "\n")
    return comparison


def _comparisons(data: Flights, rounds: int) -> Iterator[Comparison]:
    yield from _features(data, rounds)
    yield from _codec(data, rounds)
    yield compare_with_evidently(min(rounds, 3))
    with tempfile.TemporaryDirectory() as folder, valkey(Path(folder)) as url:
        bulk, single = (
            partial(_intake, data, url, Path(folder) / "home", rows, size) for rows, size in ((20_000, 100), (2_000, 1))
        )
        yield compare("stream to archive, 100-row batches", 20_000, bulk, _times(single, 10), "1-row batches", min(rounds, 3))


def _features(data: Flights, rounds: int) -> Iterator[Comparison]:
    """One row through the scalar encoder against one row through polars; a table at once against row by row."""
    steps = compile_row_encoder(data.features.features, Path()).values()
    rows, one = data.frame.height, data.frame.head(1)
    some = list(data.frame.head(2_000).iter_rows(named=True))
    scalar, polars = _times(lambda: [step(some[0]) for step in steps], 200), _times(lambda: data.features.matrix(one), 200)
    yield compare("features of one row, encoder", 200, scalar, polars, "polars", rounds)
    by_row = _times(lambda: [[step(values) for step in steps] for values in some], max(1, rows // 2_000))
    yield compare("features of a table, polars", rows, lambda: data.features.matrix(data.frame), by_row, "encoder", rounds)


def _codec(data: Flights, rounds: int) -> Iterator[Comparison]:
    """A columnar batch against the same rows one by one, there and back."""
    rows = 10_000
    whole, single = data.batches(rows, 100), data.batches(rows, 1)
    yield compare(
        "codec, 100-row batches", rows, lambda: _there_and_back(whole), lambda: _there_and_back(single), "1-row", rounds
    )


def _there_and_back(batches: Sequence[PredictionBatch]) -> None:
    for batch in batches:
        decode_prediction_batch(encode_batch(batch))


def _intake(data: Flights, url: str, home: Path, rows: int, size: int) -> None:
    """Write `rows` predictions to the stream, read them in the group, archive and acknowledge them."""
    shutil.rmtree(home, ignore_errors=True)
    with connect(url) as store:
        store.flushdb()
        for batch in data.batches(rows, size):
            append(store, predictions_stream(data.spec.name), encode_batch(batch))
        consumer, archive = StreamConsumer(store, data.spec.name), Archive(home, data.spec.task, data.schema)
        consumer.ensure_groups()
        while (batch := consumer.read()).entries:
            consumer.ingest(batch, archive)
        if archive.counts().predictions != rows:
            raise RuntimeError(f"{archive.counts().predictions} of {rows} rows were archived")


def _times(work: Callable[[], object], count: int) -> Callable[[], None]:
    def repeated() -> None:
        for _ in range(count):
            work()

    return repeated


if __name__ == "__main__":
    main()
