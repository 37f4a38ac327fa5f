"""Reads files that a test wrote with the readers of other makers, and compares types and values with what was meant.

check_files.py <check> <folder>: the folder holds the files and `expected.json`, a list of records, in which what JSON cannot
hold is text: floats by their bits, integers in decimals, bytes in hexadecimals. Exits 1 with a line that says what differs.
"""

import csv
import datetime
import gzip
import io
import json
import pathlib
import struct
import sys

import cramjam
import duckdb
import fastavro
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import zstandard

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


def bits(value):
    """A float as text that no rounding hides behind."""
    return None if value is None else struct.pack(">d", value).hex()


def millis(value):
    """An aware datetime in milliseconds since 1970."""
    assert value.tzinfo is not None, f"{value} has no time zone"
    return (value - EPOCH) // datetime.timedelta(milliseconds=1)


def same(what, found, expected):
    assert len(found) == len(expected), f"{what}: {len(found)} records where {len(expected)} were written"
    for index, (one, other) in enumerate(zip(found, expected)):
        assert one == other, f"{what}, record {index}:\n  found    {one}\n  expected {other}"


def nested(row):
    """A row of Parquet or Avro in the form of expected.json; refuses values of another type."""

    def number(value):
        assert type(value) is int, f"{value!r} is no integer"
        return str(value)

    def text(value):
        assert value is None or type(value) is str, f"{value!r} is no text"
        return value

    def inner(value):
        return None if value is None else {"name": text(value["name"]), "sizes": [number(n) for n in value["sizes"]]}

    assert type(row["flag"]) is bool and type(row["bytes"]) is bytes
    return {
        "small": number(row["small"]),
        "large": number(row["large"]),
        "unsigned": number(row["unsigned"]),
        "float": bits(row["float"]),
        "double": bits(row["double"]),
        "maybe_double": bits(row["maybe_double"]),
        "text": text(row["text"]),
        "maybe_text": text(row["maybe_text"]),
        "flag": row["flag"],
        "at": str(millis(row["at"])),
        "maybe_at": None if row["maybe_at"] is None else str(millis(row["maybe_at"])),
        "bytes": row["bytes"].hex(),
        "kind": text(row["kind"]),
        "tags": [text(tag) for tag in row["tags"]],
        "inner": inner(row["inner"]),
        "inners": [inner(value) for value in row["inners"]],
        "map": {text(key): number(value) for key, value in dict(row["map"]).items()},
    }


PARQUET_TYPES = {
    "small": pa.int16(),
    "large": pa.int64(),
    "unsigned": pa.uint32(),
    "float": pa.float32(),
    "double": pa.float64(),
    "maybe_double": pa.float64(),
    "text": pa.string(),
    "maybe_text": pa.string(),
    "flag": pa.bool_(),
    "at": pa.timestamp("ms", tz="UTC"),
    "maybe_at": pa.timestamp("ms", tz="UTC"),
    "bytes": pa.binary(),
    "kind": pa.string(),
}
NULLABLE = {"maybe_double", "maybe_text", "maybe_at", "inner"}

DUCKDB_TYPES = {
    "small": "SMALLINT",
    "large": "BIGINT",
    "unsigned": "UINTEGER",
    "float": "FLOAT",
    "double": "DOUBLE",
    "maybe_double": "DOUBLE",
    "text": "VARCHAR",
    "maybe_text": "VARCHAR",
    "flag": "BOOLEAN",
    "at": "TIMESTAMP WITH TIME ZONE",
    "maybe_at": "TIMESTAMP WITH TIME ZONE",
    "bytes": "BLOB",
    "kind": "VARCHAR",
    "tags": "VARCHAR[]",
    "inner": 'STRUCT("name" VARCHAR, sizes BIGINT[])',
    "inners": 'STRUCT("name" VARCHAR, sizes BIGINT[])[]',
    "map": "MAP(VARCHAR, INTEGER)",
}


def parquet(folder, expected):
    files = sorted(folder.glob("*.parquet"))
    for path in files:
        file = pq.ParquetFile(path)
        metadata = file.metadata
        assert metadata.created_by.startswith("shardflow version "), metadata.created_by
        assert metadata.num_row_groups == -(-len(expected) // 7), f"{path.name}: {metadata.num_row_groups} row groups"
        for field in file.schema_arrow:
            if field.name in PARQUET_TYPES:
                assert field.type == PARQUET_TYPES[field.name], f"{field.name} is {field.type}"
            assert field.nullable == (field.name in NULLABLE), f"{field.name} nullable: {field.nullable}"
        for group in range(metadata.num_row_groups):
            for column in range(metadata.num_columns):
                chunk = metadata.row_group(group).column(column)
                assert chunk.is_stats_set, f"{chunk.path_in_schema} has no statistics"
        same(f"pyarrow, {path.name}", [nested(row) for row in file.read().to_pylist()], expected)

        connection = duckdb.connect()
        relation = connection.sql(f"SELECT * FROM read_parquet('{path}')")
        types = {name: str(kind) for name, kind in zip(relation.columns, relation.types)}
        assert types == DUCKDB_TYPES, f"duckdb, {path.name}: {types}"
        rows = [dict(zip(relation.columns, row)) for row in relation.fetchall()]
        same(f"duckdb, {path.name}", [nested(row) for row in rows], expected)
        least = connection.sql(f"SELECT min(large), count(*) FROM read_parquet('{path}') WHERE large <= -1").fetchall()[0]
        numbers = [int(row["large"]) for row in expected if int(row["large"]) <= -1]
        assert least == (min(numbers), len(numbers)), f"duckdb by statistics: {least}"
    return files


def avro(folder, expected):
    files = sorted(folder.glob("*.avro"))
    codecs = set()
    for path in files:
        with path.open("rb") as file:
            reader = fastavro.reader(file)
            codecs.add(reader.codec)
            at = next(field for field in reader.writer_schema["fields"] if field["name"] == "at")
            assert at["type"] == {"type": "long", "logicalType": "timestamp-millis"}, at
            same(f"fastavro, {path.name}", [nested(row) for row in reader], expected)
        with path.open("rb") as file:
            blocks = list(fastavro.block_reader(file))
            assert len(blocks) > 1 and sum(block.num_records for block in blocks) == len(expected)
    assert codecs == {"null", "deflate", "zstandard", "snappy"}, codecs
    return files


def unpacked(path):
    data = path.read_bytes()
    if path.suffix == ".gz":
        return gzip.decompress(data)
    if path.suffix == ".zst":
        return zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)).read()
    if path.suffix == ".sz":
        return bytes(cramjam.snappy.decompress(data))
    return data


def ndjson(folder, expected):
    files = sorted(folder.glob("*.ndjson*"))
    for path in files:
        lines = unpacked(path).decode().split("\n")
        assert lines.pop() == "", f"{path.name} does not end with a line break"
        found = []
        for line in lines:
            row = json.loads(line, parse_constant=lambda name: sys.exit(f"{name} is not JSON"))
            row["bytes"] = bytes(row["bytes"])
            # A JSON number is read as a double: that of a single-precision number is the shortest that reads back as it.
            row["float"] = struct.unpack(">f", struct.pack(">f", row["float"]))[0]
            for name in ("at", "maybe_at"):
                row[name] = None if row[name] is None else EPOCH + datetime.timedelta(milliseconds=row[name])
            found.append(nested(row))
        same(path.name, found, expected)
        if path.suffix != ".sz":
            query = f"SELECT count(*), count(maybe_text), sum(large) FROM read_ndjson('{path}')"
            texts = sum(row["maybe_text"] is not None for row in expected)
            found = duckdb.sql(query).fetchall()[0]
            assert found == (len(expected), texts, sum(int(row["large"]) for row in expected)), f"{path.name}: {found}"
    return files


CSV_TYPES = {
    "large": "BIGINT",
    "double": "DOUBLE",
    "maybe_double": "DOUBLE",
    "text": "VARCHAR",
    "maybe_text": "VARCHAR",
    "flag": "BOOLEAN",
    "kind": "VARCHAR",
}


def csv_rows(folder, expected):
    files = sorted(path for path in folder.iterdir() if ".csv" in path.name or ".tsv" in path.name)
    for path in files:
        delimiter = "\t" if ".tsv" in path.name else ","
        text = unpacked(path).decode()
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
        if ".tsv" not in path.name:
            assert rows.pop(0) == list(CSV_TYPES), f"{path.name}: {rows[:1]}"
        found = [dict(zip(CSV_TYPES, row, strict=True)) for row in rows]
        plain = [
            {
                "large": row["large"],
                "double": bits(float(row["double"])),
                "maybe_double": bits(float(row["maybe_double"])) if row["maybe_double"] else None,
                "text": row["text"],
                # Python's reader does not tell an empty text from none.
                "maybe_text": row["maybe_text"],
                "flag": {"true": True, "false": False}[row["flag"]],
                "kind": row["kind"],
            }
            for row in found
        ]
        same(path.name, plain, [{**row, "maybe_text": row["maybe_text"] or ""} for row in expected])
        if path.suffix == ".sz":
            continue
        # DuckDB tells them apart.
        columns = "{" + ", ".join(f"'{name}': '{kind}'" for name, kind in CSV_TYPES.items()) + "}"
        header = "false" if ".tsv" in path.name else "true"
        query = f"""SELECT * FROM read_csv('{path}', columns={columns}, header={header}, delim='{delimiter}', quote='"',
            escape='"', new_line='\\n', allow_quoted_nulls=false, auto_detect=false)"""
        read = [dict(zip(CSV_TYPES, row)) for row in duckdb.sql(query).fetchall()]
        for row in read:
            row.update(large=str(row["large"]), double=bits(row["double"]), maybe_double=bits(row["maybe_double"]))
        same(f"duckdb, {path.name}", read, expected)
    return files


NULL = "__HIVE_DEFAULT_PARTITION__"


def partition_text(row):
    """An empty text has a name of its own, so that no reader takes it for null."""
    return "__EMPTY__" if row["account"] == "" else row["account"]


def partitions(folder, expected):
    """Folders in Hive's form: the values that were meant come out of the paths again."""
    dataset = pyarrow.dataset.dataset(folder / "data", format="parquet", partitioning="hive")
    rows = dataset.to_table().to_pylist()
    by_id = {row["id"]: row for row in rows}
    assert len(by_id) == len(rows) == len(expected), f"{len(rows)} rows where {len(expected)} were written"
    for row in expected:
        found = by_id[row["id"]]
        assert str(found["dt"]) == row["dt"], f"pyarrow: {found} where {row} was written"
        # pyarrow looks for null in what it has decoded: it alone takes this text for null, whatever the path says.
        expected_text = None if row["account"] == NULL else partition_text(row)
        assert found["account"] == expected_text, f"pyarrow: {found} where {row} was written"
    query = f"SELECT id, account FROM read_parquet('{folder}/data/*/*/*.parquet', hive_partitioning=true, hive_types_autocast=false)"
    found = dict(duckdb.sql(query).fetchall())
    for row in expected:
        expected_text = partition_text(row)
        assert found[row["id"]] == expected_text, f"duckdb: {found[row['id']]!r} where {row} was written"
    return sorted(folder.glob("data/**/*.parquet"))


CHECKS = {"parquet": parquet, "avro": avro, "ndjson": ndjson, "csv": csv_rows, "partitions": partitions}


def main():
    check, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    expected = json.loads((folder / "expected.json").read_text())
    assert expected, "nothing was written"
    files = CHECKS[check](folder, expected)
    assert files, "there are no files"
    print(f"{len(files)} files of {len(expected)} records")


if __name__ == "__main__":
    try:
        main()
    except AssertionError as error:
        sys.exit(str(error))
