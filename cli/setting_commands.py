"""get, put and delete of a setting, made from its description: one factory for all of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from cosfs.client.documents.setting import Setting
from cosfs.errors import UsageError

from .coscli_settings import translate
from .options import BUCKET_URL, Command, CommandGroup, command
from .setting_io import BucketSetting, ask_first, full_bucket, read_config, show, show_difference

if TYPE_CHECKING:
    from cosfs.client.url import CosUrl

    from .state import State

Build = Callable[["State", BucketSetting, dict[str, Any]], dict[str, Any] | None]


@dataclass(frozen=True)
class Noun:
    """A command that is about one setting.

    options are those of `put` besides --config; build makes the document from them, None if none of them
    was given. verbs are further commands. example: further examples of `put`.
    """

    setting: Setting
    help: str
    options: Sequence[Callable[[Any], Any]] = ()
    build: Build | None = None
    before_put: Callable[[State, BucketSetting, dict[str, Any], bool], None] | None = None
    verbs: Sequence[click.Command] = ()
    put_examples: Sequence[str] = ()
    config_names: tuple[str, ...] = ("--config",)
    id_option: str = "--id"


bucket_argument = click.argument("url", type=BUCKET_URL, metavar="cos://BUCKET")
yes_option = click.option("--yes", "-y", is_flag=True, help="Do not ask, as somebody at a terminal is.")


class SettingGroup(CommandGroup):
    """`cos website cos://bucket …` means `cos website put`, as in `aws s3 website`; takes coscli's words."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, translate(self.name or "", args))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0].startswith("cos://") and self.name == "website":
            args = ["put", *args]
        return super().resolve_command(ctx, args)


def make_group(noun: Noun) -> click.Group:
    """Return the command of a noun."""
    name = noun.setting.name
    verbs = [_make_get(noun), _make_put(noun), *([_make_delete(noun)] if noun.setting.deletable else [])]
    names = {each.name for each in noun.verbs}
    group = SettingGroup(name, help=noun.help)
    for each in (*(verb for verb in verbs if verb.name not in names), *noun.verbs):
        group.add_command(each)
    return group


def _examples(*lines: str) -> str:
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def _id_option(noun: Noun, *, required: bool) -> list[Callable[[Any], Any]]:
    if not noun.setting.by_id:
        return []
    what = "Which one." if required else "Its id, if the document does not say it."
    return [click.option(noun.id_option, "id_", metavar="NAME", required=required, help=what)]


def _make_get(noun: Noun) -> Command:
    setting = noun.setting

    def get(state: State, url: CosUrl, xml: bool = False, id_: str = "") -> int:
        subject = BucketSetting(state, setting, full_bucket(state, url), id_ or "")
        value = subject.get()
        if value is None or (not value and setting.by_id):
            raise subject.nothing()
        if not value:  # what COS answers where a setting was never touched
            state.out.talk(f"cos://{subject.bucket} has no {setting.title}")
        show(state, setting, value, as_xml=xml)
        return 0

    chosen = f" {noun.id_option} {_example_id(noun)}" if setting.by_id else ""
    call = f"cos {noun.setting.called} get cos://bucket{chosen}"
    text = f"Print the {setting.title}, as JSON unless --output says otherwise.\n\n" + _examples(
        call, f"{call} > {setting.name}.json"
    )
    options = (
        [click.option("--xml", is_flag=True, help="Print it in XML, as COS has it.")] if setting.root else []
    )
    return _command("get", get, text, [bucket_argument, *_id_option(noun, required=True), *options])


def _make_put(noun: Noun) -> Command:
    setting = noun.setting

    def put(state: State, url: CosUrl, config: str | None, yes: bool, dryrun: bool, **options: Any) -> int:
        id_ = options.pop("id_", None) or ""
        subject = BucketSetting(state, setting, full_bucket(state, url), id_)
        value, source = _document(noun, state, subject, config, options)
        if not value and setting.may_be_empty and not subject.get():
            state.out.talk(f"cos://{subject.bucket} has no {setting.title} and keeps none")
            return unchanged(state, f"put_{setting.name}", subject)  # what was never set goes back as it came
        checked = setting.check(value, source)
        for remark in checked.remarks:
            state.out.warn(f"{source}: {remark}")
        value = checked.value
        _take_id(subject, value, noun)
        if noun.before_put is not None:
            noun.before_put(state, subject, value, dryrun)
        if dryrun:
            show_difference(state, subject, subject.get(), value)
            return 0
        ask_first(state, subject, value, yes=yes)
        subject.put(value)
        return report(state, f"put_{setting.name}", subject.bucket)

    call = f"cos {setting.called} put cos://bucket {noun.config_names[-1]} {setting.name}.json"
    text = (
        f"Set the {setting.title} in place of the one there is.\n\n"
        "The document is JSON or XML. It is checked before anything is sent.\n\n"
        + _examples(
            call,
            f"{call} --dryrun",
            *noun.put_examples,
        )
        + f"\n\n\b\n{setting.name}.json, for example:\n"
        + "\n".join(f"  {line}" for line in _wrapped(setting.example))
    )
    config = click.option(
        *noun.config_names,
        "config",
        metavar="FILE|-",
        help="The document: a file, file://FILE or standard input.",
    )
    return _command(
        "put",
        put,
        text,
        [
            bucket_argument,
            config,
            *noun.options,
            *_id_option(noun, required=False),
            yes_option,
            _diff_option(),
        ],
    )


def _document(
    noun: Noun, state: State, subject: BucketSetting, config: str | None, options: dict[str, Any]
) -> tuple[dict[str, Any], str]:
    if config is not None:
        given = [f"--{name.replace('_', '-')}" for name, value in options.items() if value]
        if given:
            raise UsageError(f"--config and {given[0]} cannot both be given")
        return read_config(noun.setting, config)
    built = noun.build(state, subject, options) if noun.build is not None else None
    if built is None:
        raise UsageError(
            f"the {noun.setting.title} is missing", hint="Add --config FILE, or - for standard input"
        )
    return built, "the options"


def _take_id(subject: BucketSetting, value: dict[str, Any], noun: Noun) -> None:
    field = noun.setting.id_field
    if not field:
        return
    if subject.id and subject.id != value[field]:
        raise UsageError(
            f"{noun.id_option} is {subject.id!r}, but the document has the {field} {value[field]!r}"
        )
    subject.id = value[field]


def _make_delete(noun: Noun) -> Command:
    setting = noun.setting

    def delete(state: State, url: CosUrl, yes: bool, dryrun: bool, id_: str = "") -> int:
        subject = BucketSetting(state, setting, full_bucket(state, url), id_ or "")
        return remove(state, subject, f"delete_{setting.name}", yes=yes, dryrun=dryrun)

    chosen = f" {noun.id_option} {_example_id(noun)}" if setting.by_id else ""
    text = f"Remove the {setting.title}.\n\n" + _examples(
        f"cos {noun.setting.called} delete cos://bucket{chosen}",
        f"cos {noun.setting.called} delete cos://bucket{chosen} --dryrun",
    )
    options = [bucket_argument, *_id_option(noun, required=True), yes_option, _diff_option()]
    return _command("delete", delete, text, options)


def remove(state: State, subject: BucketSetting, op: str, *, yes: bool, dryrun: bool) -> int:
    """Take a setting away; it is no error if there is none."""
    if dryrun:
        show_difference(state, subject, subject.get(), None)
        return 0
    ask_first(state, subject, None, yes=yes)
    subject.delete()
    return report(state, op, subject.bucket)


def store(state: State, subject: BucketSetting, value: dict[str, Any], op: str, *, dryrun: bool) -> int:
    """Send a document that a verb has made."""
    checked = subject.setting.check(value, "the options").value
    if dryrun:
        show_difference(state, subject, subject.get(), checked)
        return 0
    subject.put(checked)
    return report(state, op, subject.bucket)


def report(state: State, op: str, bucket: str, note: str = "", *, dryrun: bool = False) -> int:
    """Say that it is done, or would be."""
    from .report import Report

    done = Report(state)
    if dryrun:
        done.would_set(op.replace("-", "_"), bucket, note)
    else:
        done.bucket(op.replace("-", "_"), bucket)
    return done.finish()


def unchanged(state: State, op: str, subject: BucketSetting) -> int:
    """Say where a machine reads that nothing had to be done."""
    from .report import Report

    done = Report(state)
    done.left_out(op.replace("-", "_"), "", subject.target, "same")
    return done.finish()


def make_verb(
    name: str,
    function: Callable[..., int],
    text: str,
    examples: Sequence[str],
    options: Sequence[Callable[[Any], Any]] = (),
) -> Command:
    """Return a further command of a noun."""
    return _command(name, function, f"{text}\n\n{_examples(*examples)}", [bucket_argument, *options])


def _command(
    name: str, function: Callable[..., int], text: str, options: Sequence[Callable[[Any], Any]]
) -> Command:
    decorated: Any = click.pass_obj(function)
    for option in reversed(options):
        decorated = option(decorated)
    return command(name, help=inspect.cleandoc(text))(decorated)


def _diff_option() -> Callable[[Any], Any]:
    return click.option("--dryrun", "-n", "--dry-run", is_flag=True, help="Only show what would change.")


def _example_id(noun: Noun) -> str:
    import json

    field = noun.setting.id_field
    return str(json.loads(noun.setting.example)[field]) if field else "static.example.com"


def _wrapped(document: str) -> list[str]:
    """Lay an example out so that it fits the width of a help text."""
    import json

    return _layout(json.loads(document), 92)


def _layout(value: Any, width: int) -> list[str]:
    """Print JSON with as much on a line as fits."""
    import json

    flat = json.dumps(value, ensure_ascii=False)
    if len(flat) <= width or not isinstance(value, dict | list):
        return [flat]
    opening, closing = ("{", "}") if isinstance(value, dict) else ("[", "]")
    entries = (
        [(f"{json.dumps(name)}: ", inner) for name, inner in value.items()]
        if isinstance(value, dict)
        else [("", inner) for inner in value]
    )
    lines = [opening]
    for number, (lead, inner) in enumerate(entries):
        laid = _layout(inner, width - 3 - len(lead))
        laid[0] = lead + laid[0]
        laid[-1] += "," if number < len(entries) - 1 else ""
        lines += [f"  {line}" for line in laid]
    return [*lines, closing]
