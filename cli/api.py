"""`cos api`: one call of the API, whichever it is."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cosfs.errors import IntegrityError, UsageError

from .options import Command, command
from .output import printable

if TYPE_CHECKING:
    from cosfs.client.catalogue import Operation

    from .state import State

_PIECE = 1 << 20
_STREAMS = ("get_object", "get_snapshot", "get_pm3u8", "select_object_content")


class _ApiCommand(Command):
    """Takes the parameters of any operation as options: --max-keys 5 is MaxKeys."""

    def __init__(self, *args: Any, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.context_settings = {
            **self.context_settings,
            "ignore_unknown_options": True,
            "allow_extra_args": True,
        }


@command("api", cls=_ApiCommand)
@click.argument("operation", required=False)
@click.option("--bucket", metavar="BUCKET", help="Bucket.")
@click.option("--key", metavar="KEY", help="Key of the object.")
@click.option("--body", metavar="FILE", help="What is sent: the content of this file.")
@click.option("--param", multiple=True, metavar="K=V", help="Any parameter; V may be JSON. Repeatable.")
@click.option("--cli-input-json", metavar="JSON|file://FILE", help="Parameters as one JSON object.")
@click.option("--outfile", metavar="FILE|-", help="Where a body that is answered goes.")
@click.option("--list", "listing", is_flag=True, help="List all operations, or what one takes.")
@click.option("--dryrun", "-n", "--dry-run", is_flag=True, help="Only print what would be asked.")
@click.pass_context
def api(
    ctx: click.Context,
    operation: str | None,
    bucket: str | None,
    key: str | None,
    body: str | None,
    param: tuple[str, ...],
    cli_input_json: str | None,
    outfile: str | None,
    listing: bool,
    dryrun: bool,
) -> int:
    """Make one call of the API and print its answer as JSON.

    OPERATION is a method of Tencent's Python SDK, such as get_bucket_acl; each of its parameters may
    be given as an option too (--max-keys 5). What has a command of its own is better done by that.

    \b
    Examples:
      cos api --list
      cos api --list list_objects
      cos api head_object --bucket bucket --key file.txt
      cos api list_objects --bucket bucket --prefix photos/ --max-keys 5
      cos api get_object --bucket bucket --key file.txt --outfile copy.txt
      cos api put_object_tagging --bucket bucket --key file.txt \\
        --tagging '{"TagSet": {"Tag": [{"Key": "team", "Value": "web"}]}}'
    """
    from cosfs.client.catalogue import find

    state: State = ctx.find_root().obj
    if listing:
        return _list(state, operation)
    if not operation:
        raise UsageError("the operation is missing", hint="cos api --list shows all")
    chosen = find(operation)
    arguments = _read_json(cli_input_json, chosen) if cli_input_json else {}
    for name, text in (("Bucket", bucket), ("Key", key)):
        if text is not None:
            arguments[chosen.parameter(name)] = text
    for name, text in (*map(_pair, param), *_extra(ctx.args)):
        arguments[chosen.parameter(name)] = _value(chosen, chosen.parameter(name), text)
    if "Bucket" in arguments:
        arguments["Bucket"] = str(arguments["Bucket"]).removeprefix("cos://").rstrip("/")
    files = _files(chosen, body)
    missing = [name for name in chosen.required if name not in arguments and name not in files]
    if missing:
        raise UsageError(f"{chosen.name} needs {' and '.join(missing)}", hint=f"Add --param {missing[0]}=…")
    if chosen.name in _STREAMS and not outfile:
        raise UsageError(f"{chosen.name} answers a body", hint="Add --outfile FILE, or - for standard output")
    if dryrun:
        sent = arguments | {name: f"file://{path}" for name, path in files.items()}
        state.out.json({"Operation": chosen.name, "Parameters": sent})
        return 0
    return _call(state, chosen, arguments, files, outfile)


def _call(
    state: State, chosen: Operation, arguments: dict[str, Any], files: Mapping[str, Path], outfile: str | None
) -> int:
    from cosfs.client.control import ControlPlane

    if arguments.get("Bucket"):
        arguments["Bucket"] = state.client.resolve_bucket(arguments["Bucket"])
    answer = ControlPlane(state.client).call(
        chosen.name, finish=lambda found: _save(state, found, outfile), files=files, **arguments
    )
    if answer is not None and outfile != "-":
        (state.out.json_line if state.options.get("output") == "jsonl" else state.out.json)(answer)
    return 0


# --- parameters


def _pair(text: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not found or not name:
        raise UsageError(f"--param {text!r} is not NAME=VALUE")
    return name, value


def _extra(texts: list[str]) -> list[tuple[str, str]]:
    """Read options that only the operation knows: --max-keys 5, --max-keys=5."""
    found = []
    left = list(texts)
    while left:
        text = left.pop(0)
        if not text.startswith("--") or len(text) == 2:
            raise UsageError(f"{printable(text)!r} is no option", hint="See: cos api --help")
        name, given, value = text[2:].partition("=")
        if not given:
            if not left:
                raise UsageError(f"--{name} lacks a value")
            value = left.pop(0)
        found.append((name, value))
    return found


def _value(chosen: Operation, name: str, text: str) -> Any:
    """Return a value as its parameter wants it: a structure, a number, a flag or text."""
    default = chosen.optional.get(name)
    if text[:1] in ("{", "["):
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            if isinstance(default, dict | list):
                raise UsageError(f"{name} cannot be read as JSON: {error}") from None
            return text
    if isinstance(default, bool):
        if text.lower() not in ("true", "false"):
            raise UsageError(f"{name} must be true or false, not {text!r}")
        return text.lower() == "true"
    if isinstance(default, int):
        try:
            return int(text)
        except ValueError:
            raise UsageError(f"{name} must be a whole number, not {text!r}") from None
    if isinstance(default, dict):
        raise UsageError(f"{name} must be a JSON object", hint=f"Write --param '{name}={{…}}'")
    return text


def _read_json(text: str, chosen: Operation) -> dict[str, Any]:
    if not text.lstrip().startswith("{"):
        name = text.removeprefix("file://")
        try:
            text = Path(name).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise UsageError(f"cannot read {printable(name)}: {reason}") from None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"--cli-input-json cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise UsageError("--cli-input-json must hold an object")
    return {chosen.parameter(name): inner for name, inner in value.items()}


def _files(chosen: Operation, body: str | None) -> dict[str, Path]:
    if body is None:
        return {}
    if body == "-":
        raise UsageError("--body takes a file", hint="Standard input goes up by: cos cp - cos://BUCKET/KEY")
    path = Path(body.removeprefix("file://"))
    if not path.is_file():
        raise UsageError(f"--body {printable(body)} is no file")
    name = next((each for each in ("Body", "Data") if each in chosen.known), "")
    if not name:
        raise UsageError(f"{chosen.name} takes no --body")
    return {name: path}


# --- answers


def _save(state: State, answer: Any, outfile: str | None) -> Any:
    """Write what an answer streams to the file; return the rest as JSON can carry it."""
    if not isinstance(answer, dict):
        return _plain(answer)
    stream = next((name for name in ("Body", "Payload") if hasattr(answer.get(name), "__iter__")), "")
    if stream and not isinstance(answer[stream], str | bytes | dict | list):
        pieces = _body(answer[stream]) if stream == "Body" else _records(answer[stream])
        answer = {name: value for name, value in answer.items() if name != stream}
        answer["Outfile"] = _write(state, pieces, outfile)
    return _plain(answer)


def _body(body: Any) -> Iterable[bytes]:
    raw, wanted, got = body.get_raw_stream(), len(body), 0
    while piece := raw.read(_PIECE, decode_content=False):
        got += len(piece)
        yield piece
    if wanted and got != wanted:
        raise IntegrityError(f"the answer ended after {got} of {wanted} bytes", hint="Try again")


def _records(events: Any) -> Iterable[bytes]:
    for event in events:
        if isinstance(event, dict) and "Records" in event:
            yield event["Records"]["Payload"]


def _write(state: State, pieces: Iterable[bytes], outfile: str | None) -> str:
    if outfile is None:
        raise UsageError("the answer is a body", hint="Add --outfile FILE, or - for standard output")
    if outfile == "-":
        for piece in pieces:
            state.out.write(piece)
        return outfile
    target = Path(outfile)
    partial = target.with_name(f".cos-{target.name[:100]}.tmp")
    try:
        with partial.open("wb") as file:
            for piece in pieces:
                file.write(piece)
        partial.replace(target)
    except OSError as error:
        raise UsageError(f"cannot write {printable(outfile)}: {error.strerror or error}") from None
    finally:
        partial.unlink(missing_ok=True)
    return outfile


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return base64.b64encode(value).decode()
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def _list(state: State, operation: str | None) -> int:
    from cosfs.client.catalogue import find, operations

    found = [find(operation)] if operation else list(operations().values())
    if state.format in ("json", "jsonl"):
        records = [
            {"Operation": each.name, "Required": each.required, "Optional": list(each.optional)}
            for each in found
        ]
        (state.out.json if state.format == "json" else state.out.json_line)({"Operations": records})
    elif operation:
        state.out.lines(
            [
                *(f"{name}\trequired" for name in found[0].required),
                *(f"{name}\toptional" for name in found[0].optional),
                *(f"{name}\theader" for name in found[0].headers),
            ]
        )
    else:
        state.out.lines(each.name for each in found)
    return 0
