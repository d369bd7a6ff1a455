"""Files of every type, whole and broken: a fault with its place, or one line with the next move."""

from __future__ import annotations

import bz2
import csv
import datetime
import decimal
import gzip
import io
import json
import lzma
import os
import pickle
import random
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq
import pytest

from agents.reading import json_files, streams
from agents.reading.files import Batch, place, read_batches, read_records
from shared_memory.errors import BadInput

ROWS = [{"prompt": f"What is {n}?", "completion": f"It is {n}."} for n in range(10)]


def jsonl(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def separated(delimiter: str) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, ["prompt", "completion"], delimiter=delimiter)
    writer.writeheader()
    writer.writerows(ROWS)
    return text.getvalue().encode()


def arrow(open_writer: Callable[..., Any]) -> bytes:
    table = pa.Table.from_pylist(ROWS)
    sink = io.BytesIO()
    with open_writer(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=3)
    return sink.getvalue()


def parquet(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def zstd(content: bytes) -> bytes:
    return bytes(pa.compress(content, codec="zstd", asbytes=True))


TYPES: dict[str, bytes] = {
    ".jsonl": jsonl(ROWS),
    ".ndjson": jsonl(ROWS),
    ".json": json.dumps(ROWS, indent=1).encode(),
    ".csv": separated(","),
    ".tsv": separated("\t"),
    ".parquet": parquet(pa.Table.from_pylist(ROWS), row_group_size=4),
    ".arrow": arrow(ipc.new_stream),
    ".feather": arrow(ipc.new_file),
}
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstd,
}  # fmt: skip


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def read(path: Path, size: int = 4096) -> Batch:
    """All batches as one."""
    batches = list(read_batches(path, size=size))
    return Batch(
        [number for batch in batches for number in batch.numbers],
        [record for batch in batches for record in batch.records],
        [fault for batch in batches for fault in batch.faults],
    )


def faults(path: Path) -> list[tuple[int, str]]:
    return [(fault.number, fault.kind) for fault in read(path).faults]


@pytest.mark.parametrize("ending", TYPES)
def test_every_type_of_file_gives_the_same_rows_in_batches_of_any_size(tmp_path: Path, ending: str) -> None:
    path = written(tmp_path / f"rows{ending}", TYPES[ending])
    for size in (1, 3, 4096):
        batches = list(read_batches(path, size=size))
        assert all(len(batch.records) <= size for batch in batches)
        whole = read(path, size)
        assert (whole.records, whole.numbers, whole.faults) == (ROWS, list(range(1, 11)), [])
    assert read_records(path) == ROWS


@pytest.mark.parametrize("packed", PACKERS)
@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".json"])
def test_packed_text_is_read_and_one_that_is_cut_is_not_called_whole(tmp_path: Path, ending: str, packed: str) -> None:
    assert read(written(tmp_path / f"rows{ending}{packed}", PACKERS[packed](TYPES[ending]))).records == ROWS
    many = [{"prompt": random.Random(n).randbytes(200).hex()} for n in range(5000)]
    texts = {".jsonl": jsonl(many), ".csv": "\n".join(["prompt", *(row["prompt"] for row in many)]).encode()}
    content = PACKERS[packed](texts.get(ending, json.dumps(many).encode()))
    cut = written(tmp_path / f"cut{ending}{packed}", content[: len(content) * 3 // 5])
    if ending == ".json":
        with pytest.raises(BadInput, match=r"cut\.json\.\w+: .*cut or scrambled.*; get the file anew"):
            read(cut)
        return
    assert read(cut).faults[-1].kind == "truncated"
    assert 0 < len(read(cut).records) < 5000
    with pytest.raises(BadInput, match=r"cut or scrambled .*; get the file anew, for what follows is missing"):
        read_records(cut)


def test_several_packed_parts_in_one_file_are_all_read(tmp_path: Path) -> None:
    for packed, pack in PACKERS.items():
        if packed != ".zst":
            path = written(tmp_path / f"rows.jsonl{packed}", pack(jsonl(ROWS[:5])) + pack(jsonl(ROWS[5:])))
            assert read(path).records == ROWS, packed


def test_bytes_that_are_not_what_the_ending_says_are_one_line(tmp_path: Path) -> None:
    for packed in PACKERS:
        path = written(tmp_path / f"rows.jsonl{packed}", b"this is no packed file at all, is it\n" * 9)
        assert [kind for _, kind in faults(path)] == ["truncated"], packed
        with pytest.raises(BadInput, match="cut or scrambled"):
            read_records(path)


def test_lines_that_are_no_rows_are_faults_with_their_numbers_and_the_others_are_read(tmp_path: Path) -> None:
    lines = [
        b'{"prompt": "a"}', b"nope", b"", b"3", b'{"prompt": "\xff"}', b'{"prompt": NaN, "n": -Infinity}',
        b'{"prompt": 1e999}', b"[" * 5000, b'{"prompt": "z"}', b'{"prompt": "half',
    ]  # fmt: skip
    whole = read(written(tmp_path / "rows.jsonl", b"\n".join(lines)))
    assert [(fault.number, fault.kind) for fault in whole.faults] == [
        (2, "not_json"), (4, "not_an_object"), (5, "not_utf8"), (6, "not_finite"), (7, "not_finite"), (8, "not_json"),
        (10, "truncated"),
    ]  # fmt: skip
    assert whole.numbers == [1, 6, 7, 9]
    assert whole.records == [{"prompt": "a"}, {"prompt": None, "n": None}, {"prompt": None}, {"prompt": "z"}]
    assert "NaN" in whole.faults[3].detail


def test_large_whole_numbers_stay_what_they_are_however_deep_they_stand(tmp_path: Path) -> None:
    rows = [{"id": 10**20, "call": {"arguments": [{"wei": 10**20 + 1, "share": 0.5}]}}]
    assert read(written(tmp_path / "a.jsonl", jsonl(rows))).records == rows
    assert read(written(tmp_path / "a.json", json.dumps(rows).encode())).records == rows


@pytest.mark.parametrize(("name", "line"), [("a.jsonl", "nope\n"), ("a.jsonl", "7\n"), ("a.csv", '"a"b,c\n')])
def test_a_file_with_nothing_but_faults_takes_no_more_memory_than_a_batch(tmp_path: Path, name: str, line: str) -> None:
    path = written(tmp_path / name, b"x,y\n" + line.encode() * 1000)
    assert max(len(batch.faults) for batch in read_batches(path, size=100)) <= 101


def test_large_whole_numbers_and_lone_surrogates_stay_what_they_are(tmp_path: Path) -> None:
    path = written(tmp_path / "rows.jsonl", b'{"answer": 12345678901234567890123}\n{"answer": "\\ud800"}\n')
    assert read_records(path) == [{"answer": 12345678901234567890123}, {"answer": "\ud800"}]


def test_a_line_beyond_the_limit_is_skipped_in_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (streams, json_files):
        monkeypatch.setattr(module, "LINE_LIMIT", 2**20)
    with gzip.open(tmp_path / "rows.jsonl.gz", "wb", compresslevel=1) as file:
        file.write(b'{"prompt": "a"}\n{"prompt": "')
        for _ in range(100):
            file.write(b"x" * 2**20)
        file.write(b'"}\n{"prompt": "z"}\n')
    tracemalloc.start()
    whole = read(tmp_path / "rows.jsonl.gz")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [record["prompt"] for record in whole.records] == ["a", "z"]
    assert [(fault.number, fault.kind) for fault in whole.faults] == [(2, "line_too_long")]
    assert peak < 12 * 2**20


def test_a_file_that_expands_beyond_reason_is_refused_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "READ_ANYWAY", 2**20)
    for packed, pack in PACKERS.items():
        bomb = written(tmp_path / f"bomb.jsonl{packed}", pack(b'{"prompt": "' + b"0" * 2**25 + b'"}\n'))
        with pytest.raises(BadInput, match=r"expands to more than .* times its size; unpack it yourself"):
            read(bomb)


def test_an_xz_file_that_asks_for_too_much_memory_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "rows.jsonl.xz", lzma.compress(jsonl(ROWS), preset=9))
    monkeypatch.setattr(streams, "XZ_MEMORY", 2**20)
    assert [kind for _, kind in faults(path)] == ["truncated"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", jsonl(ROWS).decode().encode("utf-16"), "is UTF-16 or binary, not UTF-8 text; save it as UTF-8"),
        ("a.jsonl", jsonl(ROWS).decode().encode("utf-16-le"), "is UTF-16 or binary"),
        ("a.csv", TYPES[".csv"].decode().encode("utf-16"), "is UTF-16 or binary"),
        ("a.json", b'{\n "prompt": "x"\n}', r"is not JSON, or no list of objects .*; write it as"),
        ("a.json", b'"x"', "is not a list of JSON objects"),
        ("a.json", b'[{"prompt": "\xff"}]', "is not JSON .*; save it as UTF-8"),
        ("a.json", b'[{"prompt": "x"}', "is not JSON .*; mend it"),
        ("a.json", b"[]", "has no rows"),
        ("a.jsonl", b"\n \n", "has no rows"),
        ("a.csv", b"", "is empty"),
        ("a.csv", b"\xef\xbb\xbf,,\n1,2,3\n", "has no header: its first line is blank"),
        ("a.csv", b"a,b,a\n1,2,3\n", "has more than one column `a`; rename"),
        ("a.csv", b"question;answer\n1;2\n", r"seems to have semicolons between its columns; save it as \.csv with"),
        ("a.tsv", b"question,answer\n1,2\n", "seems to have commas between its columns"),
        ("a.csv", b"a,b\n", "has no rows"),
        ("a.parquet", b"", "is empty"),
        ("a.parquet", TYPES[".parquet"][:-20], "is not valid Parquet"),
        ("a.arrow", b"", "is empty"),
        ("a.arrow", b"ARROW1 is what it says", "is not valid Arrow"),
        ("a.arrow", b"no arrow", "is not valid Arrow"),
        ("a.pkl", pickle.dumps(ROWS), "could run code when it is loaded"),
        ("a.parquet.gz", b"x", "is not a data file that can be read"),
        ("a.zip", b"x", r"is not a data file that can be read; give a \.jsonl"),
    ],
)
def test_a_file_that_cannot_be_read_at_all_is_one_line_with_the_next_move(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        read(written(tmp_path / name, content))
    assert "\n" not in str(caught.value)


def test_a_pipe_a_device_and_a_folder_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "zero.jsonl").symlink_to("/dev/zero")
    (tmp_path / "folder.jsonl").mkdir()
    for name in ("pipe", "zero", "folder"):
        with pytest.raises(BadInput, match="is not a file; check the path"):
            read(tmp_path / f"{name}.jsonl")
    with pytest.raises(BadInput, match="does not exist; check the path"):
        read(tmp_path / "gone.jsonl")


def test_a_file_that_is_written_to_while_it_is_read_is_not_called_whole(tmp_path: Path) -> None:
    path = written(tmp_path / "rows.jsonl", jsonl(ROWS))
    batches = read_batches(path, size=5)
    next(batches)
    with path.open("ab") as file:
        file.write(jsonl(ROWS))
    with pytest.raises(BadInput, match="changed while it was read; read it again when nothing writes to it"):
        list(batches)


def test_rows_of_csv_with_other_cells_bad_bytes_and_open_quotes_are_faults(tmp_path: Path) -> None:
    path = written(tmp_path / "rows.csv", b'class,None\r\n1,"a\r\nb"\r\n1,2,3\r\n4\r\n5,\xff\r\n\r\n6,x\r\n7,"y')
    whole = read(path)
    assert [(fault.number, fault.kind) for fault in whole.faults] == [
        (2, "malformed"), (3, "malformed"), (4, "not_utf8"), (7, "truncated"),
    ]  # fmt: skip
    assert whole.records == [{"class": "1", "None": "a\r\nb"}, {"class": "", "None": ""}, {"class": "6", "None": "x"}]
    assert whole.numbers == [1, 5, 6]
    assert place(path, 2).endswith("rows.csv, row 2")
    assert place(tmp_path / "rows.jsonl.gz", 2).endswith("rows.jsonl.gz, line 2")


def test_a_mark_windows_line_ends_and_an_index_without_a_name_are_read(tmp_path: Path) -> None:
    mark = b"\xef\xbb\xbf"
    assert read(written(tmp_path / "a.jsonl", mark + jsonl(ROWS).replace(b"\n", b"\r\n"))).records == ROWS
    assert read(written(tmp_path / "a.json", mark + TYPES[".json"])).records == ROWS
    assert read(written(tmp_path / "a.csv", mark + b",prompt\r\n0,Hi\r\n")).records == [{"": "0", "prompt": "Hi"}]


def test_lines_under_the_name_of_json_are_read_and_entries_that_are_no_objects_are_faults(tmp_path: Path) -> None:
    assert read(written(tmp_path / "lines.json", jsonl(ROWS))).records == ROWS
    whole = read(written(tmp_path / "list.json", b'[{"a": 1}, 2, {"a": NaN}]'))
    assert (whole.records, whole.numbers) == ([{"a": 1}, {"a": None}], [1, 3])
    assert [fault.kind for fault in whole.faults] == ["not_finite", "not_an_object"]


def test_a_list_too_large_to_be_read_at_once_is_refused_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_files, "WHOLE_LIMIT", 100)
    with pytest.raises(BadInput, match=r"write it as JSONL \(`jq -c '\.\[\]' big\.json > big\.jsonl`\)"):
        read(written(tmp_path / "big.json", TYPES[".json"]))
    assert read(written(tmp_path / "lines.json", jsonl(ROWS))).records == ROWS


def test_exotic_types_of_parquet_are_values_and_a_value_that_is_none_is_a_fault(tmp_path: Path) -> None:
    table = pa.table({
        "price": pa.array([decimal.Decimal("1.50"), None]),
        "day": pa.array([datetime.date(2026, 1, 2)] * 2),
        "at": pa.array([1_700_000_000_000_000_001, None], pa.timestamp("ns", "UTC")),
        "raw": pa.array([b"\x00\xff", None]),
        "word": pa.array(["a", "b"]).dictionary_encode(),
        "deep": pa.array([{"a": [{"b": 1}]}, None]),
    })  # fmt: skip
    first, second = read(written(tmp_path / "exotic.parquet", parquet(table))).records
    assert (str(first["price"]), str(first["day"]), first["raw"], first["word"]) == (
        "1.50",
        "2026-01-02",
        b"\x00\xff",
        "a",
    )
    assert first["deep"] == {"a": [{"b": 1}]}
    assert first["at"].year == 2023
    assert (second["price"], second["deep"]) == (None, None)
    bad = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0"), pa.py_buffer(b"a\xff")]
    )
    whole = read(written(tmp_path / "bad.parquet", parquet(pa.table({"text": bad}))))
    assert (whole.records, [(fault.number, fault.kind) for fault in whole.faults]) == (
        [{"text": "a"}],
        [(2, "not_utf8")],
    )


def test_a_parquet_file_whose_rows_cannot_be_unpacked_is_not_called_whole(tmp_path: Path) -> None:
    rows = [{"prompt": f"{n} " * 400, "completion": str(n)} for n in range(40)]
    content = bytearray(
        parquet(pa.Table.from_pylist(rows), row_group_size=10, compression="zstd", use_dictionary=False)
    )
    at = pq.ParquetFile(io.BytesIO(bytes(content))).metadata.row_group(2).column(0).data_page_offset
    content[at + 50 : at + 2000] = b"\xff" * 1950
    path = written(tmp_path / "rows.parquet", bytes(content))
    whole = read(path, 10)
    assert (len(whole.records), [(fault.number, fault.kind) for fault in whole.faults]) == (20, [(21, "unreadable")])
    with pytest.raises(BadInput, match=r"rows\.parquet, row \d+ and those after it cannot be read"):
        read_records(path)


def test_an_arrow_file_scrambled_anywhere_is_its_rows_a_fault_or_one_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.arrow"
    for at in range(0, len(TYPES[".arrow"]), 7):
        content = bytearray(TYPES[".arrow"])
        content[at] ^= 0xFF
        path.write_bytes(content)
        with suppress(BadInput):
            read(path)


def test_loading_never_runs_code_that_a_file_brings(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    metadata = {b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": pickle.dumps(Trap())}
    schema = pa.schema([pa.field("prompt", pa.string(), metadata=metadata)])
    table = pa.Table.from_arrays([pa.array(["Hi"])], schema=schema)
    sink = io.BytesIO()
    with ipc.new_stream(sink, schema) as writer:
        writer.write_table(table)
    for name, content in (("rows.parquet", parquet(table)), ("rows.arrow", sink.getvalue())):
        assert read(written(tmp_path / name, content)).records == [{"prompt": "Hi"}]
    assert not (tmp_path / "ran").exists()
