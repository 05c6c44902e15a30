"""SELECT Object Content: what SQL chooses of CSV and JSON, and how the answer is framed."""

from __future__ import annotations

import bz2
import gzip
import json
import struct
import tracemalloc
import zlib
from typing import Any
from xml.sax.saxutils import escape

import pytest
from qcloud_cos import CosS3Client
from qcloud_cos.cos_exception import CosServiceError

from cosfs.emulator.select_input import CsvInput, Progress, csv_rows, decoded, unpacked
from tests.emulator.asking import code
from tests.emulator.signed import Answer, Signed

PEOPLE = b'name,age,city\nAnn,30,Bonn\nBob,4,Oslo\n"Eve, the",,Rome\n# a comment\nZoe,100,Bonn\n'
USE = "<CSV><FileHeaderInfo>USE</FileHeaderInfo></CSV>"
LINES, DOCUMENT = "<JSON><Type>LINES</Type></JSON>", "<JSON><Type>DOCUMENT</Type></JSON>"
AS_CSV, AS_JSON = "<CSV/>", "<JSON/>"


def ask(
    wire: Signed,
    expression: str,
    given: str = USE,
    wanted: str = AS_CSV,
    *,
    compression: str = "NONE",
    progress: bool = False,
    key: str = "k",
) -> Answer:
    parts = (
        f"<Expression>{escape(expression)}</Expression><ExpressionType>SQL</ExpressionType>",
        f"<InputSerialization><CompressionType>{compression}</CompressionType>{given}</InputSerialization>",
        f"<OutputSerialization>{wanted}</OutputSerialization>",
        "<RequestProgress><Enabled>true</Enabled></RequestProgress>" if progress else "",
    )
    return wire("POST", f"/{key}?select&select-type=2", f"<SelectRequest>{''.join(parts)}</SelectRequest>")


Event = tuple[dict[str, str], bytes]


def events(answer: Answer) -> list[Event]:
    """Take a stream of messages apart, and check both of their checksums."""
    assert answer.status == 200, answer.body
    found, rest = [], answer.body
    while rest:
        total, length, checksum = struct.unpack(">III", rest[:12])
        assert checksum == zlib.crc32(rest[:8])
        message, rest = rest[:total], rest[total:]
        assert struct.unpack(">I", message[-4:])[0] == zlib.crc32(message[:-4])
        headers, text = {}, message[12 : 12 + length]
        while text:
            name, text = text[1 : 1 + text[0]].decode(), text[1 + text[0] :]
            kind, size = struct.unpack(">BH", text[:3])
            assert kind == 7
            headers[name], text = text[3 : 3 + size].decode(), text[3 + size :]
        found.append((headers, message[12 + length : -4]))
    return found


def kinds(found: list[Event]) -> list[str]:
    return [headers.get(":event-type", headers[":message-type"]) for headers, _ in found]


def result(answer: Answer) -> str:
    found = events(answer)
    assert kinds(found)[-2:] == ["Stats", "End"], found[-1]
    return b"".join(data for headers, data in found if headers.get(":event-type") == "Records").decode()


def failure(answer: Answer) -> str:
    headers, _ = events(answer)[-1]
    assert headers[":message-type"] == "error" and headers[":error-message"]
    return headers[":error-code"]


@pytest.fixture
def people(wire: Signed) -> Signed:
    wire("PUT", "/k", PEOPLE)
    return wire


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        ("SELECT * FROM COSObject", 'Ann,30,Bonn\nBob,4,Oslo\n"Eve, the",,Rome\nZoe,100,Bonn\n'),
        ("select name from cosobject limit 2;", "Ann\nBob\n"),
        ("SELECT s.name, s.\"age\" FROM COSObject s WHERE s.city = 'Bonn'", "Ann,30\nZoe,100\n"),
        ("SELECT _1 FROM S3Object AS s WHERE s._3 <> 'Bonn'", 'Bob\n"Eve, the"\n'),
        ("SELECT name FROM COSObject WHERE age > 9", "Ann\nZoe\n"),
        ("SELECT name FROM COSObject WHERE age > '9'", ""),
        ("SELECT name FROM COSObject WHERE CAST(age AS INT) < 50 AND NOT city LIKE 'O%'", "CAST"),
        ("SELECT name FROM COSObject WHERE age BETWEEN 4 AND 30", "Ann\nBob\n"),
        ("SELECT name FROM COSObject WHERE age NOT BETWEEN 4 AND 30", "Zoe\n"),
        ("SELECT name FROM COSObject WHERE city IN ('Rome', 'Oslo')", 'Bob\n"Eve, the"\n'),
        ("SELECT name FROM COSObject WHERE city NOT IN ('Rome', 'Oslo') OR name = 'Bob'", "Ann\nBob\nZoe\n"),
        ("SELECT name FROM COSObject WHERE name LIKE '%, _he'", '"Eve, the"\n'),
        ("SELECT name FROM COSObject WHERE name NOT LIKE '%o%'", 'Ann\n"Eve, the"\n'),
        ("SELECT name FROM COSObject WHERE missing IS NULL AND city IS NOT NULL LIMIT 1", "Ann\n"),
        ("SELECT name FROM COSObject WHERE missing = 'x' OR NOT missing = 'x'", ""),
        ("SELECT COUNT(*) FROM COSObject", "4\n"),
        ("SELECT count(*) AS n, MIN(age), max(CAST(age AS INT)) FROM COSObject WHERE age > 0", "3,4,100\n"),
        ("SELECT SUM(age), AVG(age) FROM COSObject WHERE city = 'Bonn'", "130,65\n"),
        ("SELECT SUM(age) + 1 FROM COSObject WHERE city = 'nowhere'", "\n"),
        ("SELECT age * 2 + 1, name || '!', -age FROM COSObject WHERE name = 'Ann'", "61,Ann!,-30\n"),
        ("SELECT UPPER(name), CHAR_LENGTH(city), SUBSTRING(city, 2, 2) FROM COSObject LIMIT 1", "ANN,4,on\n"),
        ("SELECT COALESCE(missing, 'none'), NULLIF(city, 'Bonn') FROM COSObject LIMIT 1", "none,\n"),
        ("SELECT 'it''s', 1.50, TRUE, TRIM(' x ') FROM COSObject LIMIT 1", "it's,1.50,true,x\n"),
        ("SELECT name FROM COSObject LIMIT 0", ""),
    ],
)
def test_expressions(people: Signed, expression: str, wanted: str) -> None:
    answer = ask(people, expression)
    if wanted == "CAST":
        assert failure(answer) == "CastFailed"  # of Eve, whose age is empty
    else:
        assert result(answer) == wanted


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "SELECT",
        "SELECT *",
        "SELECT FROM COSObject",
        "SELECT * FROM COSObject WHERE",
        "DELETE FROM COSObject",
        "SELECT * FROM COSObject WHERE a = ",
        "SELECT a b c FROM COSObject",
        "SELECT * FROM COSObject LIMIT x",
        "SELECT * FROM COSObject; DROP TABLE x",
        "SELECT nothing(a) FROM COSObject",
        "SELECT a, COUNT(*) FROM COSObject",
        "SELECT * FROM COSObject WHERE COUNT(*) > 1",
        "SELECT SUM(SUM(a)) FROM COSObject",
        "SELECT 'open FROM COSObject",
        "SELECT CAST(a AS THING) FROM COSObject",
        "SELECT LOWER() FROM COSObject",
        "SELECT # FROM COSObject",
        "SELECT LOWER(a, b) FROM COSObject",
        "SELECT * FROM SELECT",
        "SELECT * FROM COSObject WHERE a NOT 1",
        "SELECT * FROM COSObject WHERE a LIKE 'b' ESCAPE 'xx'",
        "SELECT a[x] FROM COSObject",
        "SELECT " + "(" * 500 + "1" + ")" * 500 + " FROM COSObject",
        "SELECT a FROM COSObject WHERE a = '" + "x" * 300_000 + "'",
    ],
)
def test_what_is_no_expression_is_refused_before_the_stream(people: Signed, expression: str) -> None:
    assert ask(people, expression).status == 400


def csv(**options: str) -> str:
    return (
        "<CSV>" + "".join(f"<{name}>{escape(value)}</{name}>" for name, value in options.items()) + "</CSV>"
    )


@pytest.mark.parametrize(
    ("data", "options", "wanted"),
    [
        (b"a,b\r\nc,d\r\n", {}, [["a", "b"], ["c", "d"]]),
        (b"a,b\nc,d", {"FileHeaderInfo": "IGNORE"}, [["c", "d"]]),
        (b"a;b|c;d|", {"RecordDelimiter": "|", "FieldDelimiter": ";"}, [["a", "b"], ["c", "d"]]),
        (b"a\tb\n", {"FieldDelimiter": "\\t", "RecordDelimiter": "\\n"}, [["a", "b"]]),
        (b'"a ""b""",\n', {}, [['a "b"', ""]]),
        (b"'a \\' b',c\n", {"QuoteCharacter": "'", "QuoteEscapeCharacter": "\\"}, [["a ' b", "c"]]),
        (b'"a\nb",c\nd,e\n', {"AllowQuotedRecordDelimiter": "TRUE"}, [["a\nb", "c"], ["d", "e"]]),
        (b"a,#b\n%x\n\nc,d\n", {"Comments": "%"}, [["a", "#b"], ["c", "d"]]),
        (b'\xef\xbb\xbf\xe4\xb8\xad,"",x"y"\n', {}, [["中", "", 'x"y"']]),
        (b'a,b,\n,,\n', {}, [["a", "b", ""], ["", "", ""]]),
    ],
)  # fmt: skip
def test_csv_is_read_as_it_is_written(
    wire: Signed, data: bytes, options: dict[str, str], wanted: list[list[str]]
) -> None:
    wire("PUT", "/k", data)
    rows = [
        json.loads(line)
        for line in result(ask(wire, "SELECT * FROM COSObject", csv(**options), AS_JSON)).splitlines()
    ]
    assert [list(row.values()) for row in rows] == wanted


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"QuoteFields": "ALWAYS"}, '"Eve, the","","Rome"\n'),
        ({"FieldDelimiter": ";", "RecordDelimiter": "!"}, "Eve, the;;Rome!"),
        ({"QuoteCharacter": "'"}, "'Eve, the',,Rome\n"),
    ],
)
def test_csv_is_written_as_wanted(people: Signed, options: dict[str, str], wanted: str) -> None:
    assert result(ask(people, "SELECT * FROM COSObject WHERE city = 'Rome'", USE, csv(**options))) == wanted


def test_quotes_within_are_escaped(wire: Signed) -> None:
    wire("PUT", "/k", b'"a ""b"" \\"\n')
    options = csv(QuoteFields="ALWAYS", QuoteEscapeCharacter="\\")
    assert result(ask(wire, "SELECT * FROM COSObject", csv(), options)) == '"a \\"b\\" \\\\"\n'
    assert result(ask(wire, "SELECT * FROM COSObject", csv(), AS_CSV)) == '"a ""b"" \\"\n'


ROWS: list[Any] = [
    {"n": 1, "in": {"Name": "x", "list": [1, 2]}},
    {"n": 2.5, "flag": True},
    {"n": None, "t": "中"},
]


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        ("SELECT * FROM COSObject[*]", ROWS),
        (
            "SELECT s.in.name, s.in.list[1] AS second FROM COSObject[*] s WHERE s.n = 1",
            [{"name": "x", "second": 2}],
        ),
        ("SELECT SUM(n) AS total, COUNT(n) AS n FROM COSObject[*]", [{"total": 3.5, "n": 2}]),
        ("SELECT t FROM COSObject[*] s WHERE s.n IS NULL", [{"t": "中"}]),
        ("SELECT n FROM COSObject[*] WHERE flag = true", [{"n": 2.5}]),
    ],
)
@pytest.mark.parametrize("kind", ["LINES", "DOCUMENT", "several"])
def test_json(wire: Signed, expression: str, wanted: list[Any], kind: str) -> None:
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS)
    data = {"LINES": lines, "DOCUMENT": json.dumps(ROWS, indent=1), "several": lines.replace("\n", " ")}[kind]
    wire("PUT", "/k", data.encode())
    answer = ask(wire, expression, LINES if kind == "LINES" else DOCUMENT, AS_JSON)
    assert [json.loads(line) for line in result(answer).splitlines()] == wanted


def test_paths_lead_into_documents(wire: Signed) -> None:
    wire("PUT", "/k", json.dumps({"rules": [{"id": 1}, {"id": 2}], "none": []}).encode())
    assert result(ask(wire, "SELECT id FROM COSObject[*].rules[*]", DOCUMENT)) == "1\n2\n"
    assert result(ask(wire, "SELECT s.rules[1].id FROM COSObject s", DOCUMENT)) == "2\n"
    assert result(ask(wire, "SELECT * FROM COSObject[*].none[*]", DOCUMENT)) == ""
    assert result(ask(wire, "SELECT _1 FROM COSObject[*].rules[*].id", DOCUMENT)) == "1\n2\n"


@pytest.mark.parametrize(("compression", "pack"), [("GZIP", gzip.compress), ("BZIP2", bz2.compress)])
def test_compressed_objects(wire: Signed, compression: str, pack: Any) -> None:
    data = b"".join(b"%d,%d\n" % (number, number * number) for number in range(40_000))
    cut = data.index(b"\n", 300_000) + 1
    wire("PUT", "/k", pack(data[:cut]) + pack(data[cut:]))  # two members are one content
    asked = "SELECT COUNT(*), MAX(_2) FROM COSObject WHERE _1 >= 30000"
    assert result(ask(wire, asked, csv(), compression=compression)) == "10000,1599920001\n"
    wire("PUT", "/k", pack(data)[:-20])
    assert failure(ask(wire, asked, csv(), compression=compression)) in (
        "TruncatedInput",
        "InvalidCompressionFormat",
    )
    wire("PUT", "/k", b"not packed")
    assert failure(ask(wire, asked, csv(), compression=compression)) == "InvalidCompressionFormat"
    wire("PUT", "/k", b"")
    assert failure(ask(wire, asked, csv(), compression=compression)) == "TruncatedInput"


def test_what_is_unpacked_stays_out_of_memory() -> None:
    packed = gzip.compress(b"".join(b"%d" % number + b"x" * 2000 + b"\n" for number in range(20_000)))
    tracemalloc.start()
    progress = Progress()
    rows = csv_rows(decoded(unpacked(iter([packed]), "GZIP", progress)), CsvInput())
    assert sum(1 for _ in rows) == 20_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert progress.processed > 40_000_000
    assert peak < 4_000_000


def test_the_stream_comes_in_pieces_and_tells_how_far_it_is(wire: Signed) -> None:
    line = b"x" * 999 + b"\n"
    wire("PUT", "/k", line * 20_000)
    found = events(ask(wire, "SELECT * FROM COSObject", csv(), progress=True))
    sizes = [len(data) for headers, data in found if headers[":event-type"] == "Records"]
    assert sum(sizes) == 20_000_000 and max(sizes) < 70_000
    assert {"Records", "Progress", "Stats", "End"} == set(kinds(found))
    names = ("BytesScanned", "BytesProcessed", "BytesReturned")
    stats = "".join(f"<{name}>20000000</{name}>" for name in names).encode()
    assert stats in found[-2][1] and found[-2][1].startswith(b"<?xml")
    quiet = kinds(events(ask(wire, "SELECT * FROM COSObject WHERE _1 = 'y'", csv())))
    assert set(quiet) == {"Cont", "Stats", "End"} and quiet.count("Cont") == 2


@pytest.mark.parametrize(
    ("data", "given", "wanted"),
    [
        (b'a,"b\n', csv(), "CSVParsingError"),
        (b"\xff\xfe\n", csv(), "InvalidTextEncoding"),
        (b"x" * 3_000_000, csv(), "OverMaxRecordSize"),
        (b'"' + b"x\n" * 1_500_000, csv(AllowQuotedRecordDelimiter="TRUE"), "OverMaxRecordSize"),
        (b'{"a": 1}\n{"a": \n', LINES, "JSONParsingError"),
        (b'[{"a": 1}, {"a"', DOCUMENT, "JSONParsingError"),
        (b'[{"a": 1} {"a": 2}]', DOCUMENT, "JSONParsingError"),
        (b"[" * 100_000, DOCUMENT, "JSONParsingError"),
        (b'["' + b"x" * 18_000_000, DOCUMENT, "OverMaxRecordSize"),
    ],
)
def test_what_is_wrong_with_the_data_is_told_in_the_stream(
    wire: Signed, data: bytes, given: str, wanted: str
) -> None:
    wire("PUT", "/k", data)
    assert failure(ask(wire, "SELECT * FROM COSObject[*]", given, AS_JSON)) == wanted


def test_what_came_before_an_error_is_sent(wire: Signed) -> None:
    wire("PUT", "/k", b"1\n2\nx\n")
    found = events(ask(wire, "SELECT CAST(_1 AS INT) FROM COSObject", csv()))
    assert (kinds(found), found[0][1]) == (["Records", "error"], b"1\n2\n")
    assert found[1][0][":error-code"] == "CastFailed"


@pytest.mark.parametrize(
    ("given", "wanted", "expected"),
    [
        ("<Parquet/>", AS_CSV, (501, "NotImplemented")),
        ("", AS_CSV, (400, "InvalidDataSource")),
        (USE, AS_CSV + "</OutputSerialization><ScanRange/><OutputSerialization>", (501, "NotImplemented")),
        (USE, "", (400, "InvalidDataSource")),
        (csv(FileHeaderInfo="MAYBE"), AS_CSV, (400, "InvalidFileHeaderInfo")),
        (csv(FieldDelimiter="abc"), AS_CSV, (400, "InvalidRequestParameter")),
        ("<JSON><Type>BOTH</Type></JSON>", AS_CSV, (400, "InvalidJsonType")),
        (USE, csv(QuoteFields="SOMETIMES"), (400, "InvalidQuoteFields")),
    ],
)
def test_requests_are_checked(people: Signed, given: str, wanted: str, expected: tuple[int, str]) -> None:
    assert code(ask(people, "SELECT * FROM COSObject", given, wanted)) == expected


def test_objects_must_be_readable(wire: Signed) -> None:
    assert code(ask(wire, "SELECT * FROM COSObject")) == (404, "NoSuchKey")
    wire("PUT", "/k", PEOPLE, x_cos_storage_class="ARCHIVE")
    assert code(ask(wire, "SELECT * FROM COSObject")) == (403, "InvalidObjectState")
    assert code(ask(wire, "SELECT * FROM COSObject", compression="ZIP"))[0] in (400, 403)


def test_the_sdk_selects(sdk: CosS3Client, bucket: str) -> None:
    sdk.put_object(Bucket=bucket, Key="k", Body=PEOPLE)
    asked: dict[str, Any] = {
        "Bucket": bucket, "Key": "k", "ExpressionType": "SQL", "OutputSerialization": {"JSON": {}},
        "InputSerialization": {"CompressionType": "NONE", "CSV": {"FileHeaderInfo": "USE"}},
        "RequestProgress": {"Enabled": "TRUE"},
    }  # fmt: skip
    stream = sdk.select_object_content(**asked, Expression="SELECT name FROM COSObject WHERE age < 50")[
        "Payload"
    ]
    assert stream.get_select_result() == b'{"name":"Ann"}\n{"name":"Bob"}\n'
    stream = sdk.select_object_content(**asked, Expression="SELECT * FROM COSObject LIMIT 1")["Payload"]
    assert [next(iter(event)) for event in stream] == ["Records", "Progress", "Stats", "End"]
    stream = sdk.select_object_content(**asked, Expression="SELECT CAST(name AS INT) FROM COSObject")[
        "Payload"
    ]
    with pytest.raises(CosServiceError) as caught:
        stream.get_select_result()
    assert caught.value.get_error_code() == "CastFailed"
    stream._rt.close()  # the SDK leaves the connection open when it raises
