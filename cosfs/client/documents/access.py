"""Who may do what: ACLs, policies, referers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cosfs.client.documents.schema import Choice, Field, Problems, Struct, Text
from cosfs.client.documents.setting import Setting

__all__ = ["ACL", "POLICY", "REFERER"]

_GROUPS = ("AllUsers", "AuthenticatedUsers")


def _check_grantee(grantee: Mapping[str, Any], path: str, problems: Problems) -> None:
    uri = grantee.get("URI")
    if uri is not None and uri.rpartition("/")[2] not in _GROUPS:
        problems.add(f"{path}.URI", f"must be http://cam.qcloud.com/groups/global/{' or …/'.join(_GROUPS)}")


_GRANTEE = Struct(
    (
        Field("Type", Choice(("CanonicalUser", "Group", "RootAccount", "SubAccount")), attribute=True),
        Field("URI", Text(1)),
        Field("ID", Text(1)),
        Field("DisplayName", Text()),
    ),
    one_of=(("URI", "ID"),),
    check=_check_grantee,
)
ACL = Setting(
    "bucket-acl",
    "acl",
    "access control list",
    '{"Grants": [{"Grantee": {"Type": "CanonicalUser", "ID": "qcs::cam::uin/100000000011:uin/100000000011"}, '
    '"Permission": "READ"}]}',
    "AccessControlPolicy",
    Struct(
        (
            Field("Owner", Struct((Field("ID", Text(1), required=True), Field("DisplayName", Text())))),
            Field(
                "Grants",
                Struct(
                    (
                        Field("Grantee", _GRANTEE, required=True),
                        Field(
                            "Permission",
                            Choice(("READ", "WRITE", "READ_ACP", "WRITE_ACP", "FULL_CONTROL")),
                            required=True,
                        ),
                    )
                ),
                xml="AccessControlList",
                item="Grant",
                required=True,
                most=100,
            ),
        )
    ),
    deletable=False,
)

REFERER = Setting(
    "referer",
    "referer",
    "referer configuration",
    '{"Status": "Enabled", "RefererType": "White-List", "DomainList": ["*.example.com"], '
    '"EmptyReferConfiguration": "Allow"}',
    "RefererConfiguration",
    Struct(
        (
            Field("Status", Choice(("Enabled", "Disabled")), required=True),
            Field("RefererType", Choice(("Black-List", "White-List")), required=True),
            Field("DomainList", Text(1, 1024, r"\S+", "a host without blanks"), item="Domain", required=True),
            Field("EmptyReferConfiguration", Choice(("Allow", "Deny"))),
        )
    ),
    frozenset({"NoSuchRefererConfiguration"}),
    may_be_empty=True,
    unset=b"",
)

# --- policies, which are JSON with a grammar of their own

_ELEMENTS = ("sid", "effect", "principal", "action", "resource", "condition")
_OPERATORS = (
    *("string_equal", "string_not_equal", "string_like", "string_not_like"),
    *("string_equal_ignore_case", "string_not_equal_ignore_case"),
    *("ip_equal", "ip_not_equal", "bool_equal", "null_equal"),
    *("numeric_equal", "numeric_not_equal", "numeric_greater_than", "numeric_greater_than_equal"),
    *("numeric_less_than", "numeric_less_than_equal"),
    *("date_equal", "date_not_equal", "date_greater_than", "date_greater_than_equal"),
    *("date_less_than", "date_less_than_equal"),
)


def check_policy(document: dict[str, Any], problems: Problems) -> None:
    """Judge the policy of a bucket. Names may be in any case, as in Tencent's own examples."""
    spelled = {name.lower(): name for name in document}
    for name in document:
        if name.lower() not in ("version", "statement", "principal"):
            problems.add(name, "there is no such field in a policy")
    version = document.get(spelled.get("version", ""))
    if version not in ("2.0", 2.0):
        problems.add(
            "version", "must be 2.0" if "version" in spelled else 'is missing; write "version": "2.0"'
        )
    statements = document.get(spelled.get("statement", ""))
    if isinstance(statements, dict):
        statements = [statements]
    if not isinstance(statements, list) or not statements:
        problems.add("statement", "must be a list of statements" if "statement" in spelled else "is missing")
        return
    for number, statement in enumerate(statements):
        _check_statement(statement, f"statement[{number}]", "principal" in spelled, problems)


def _check_statement(statement: Any, path: str, has_principal: bool, problems: Problems) -> None:
    if not isinstance(statement, dict):
        problems.add(path, "must be an object with named fields")
        return
    found = {name.lower(): value for name, value in statement.items()}
    for name in statement:
        if name.lower() not in _ELEMENTS:
            problems.add(f"{path}.{name}", f"there is no such field; there are {', '.join(_ELEMENTS)}")
    if str(found.get("effect", "")).lower() not in ("allow", "deny"):
        problems.add(f"{path}.effect", "must be allow or deny" if "effect" in found else "is missing")
    _check_actions(_texts(found, "action", path, problems), path, problems)
    for number, resource in enumerate(_texts(found, "resource", path, problems)):
        if resource != "*" and not (resource.startswith("qcs::cos:") and resource.count(":") >= 5):
            problems.add(
                f"{path}.resource[{number}]", "must be * or qcs::cos:REGION:uid/APPID:BUCKET-APPID/KEY"
            )
    if "principal" in found:
        _check_principal(found["principal"], f"{path}.principal", problems)
    elif not has_principal:
        problems.add(f"{path}.principal", 'is missing; {"qcs": ["qcs::cam::anyone:anyone"]} means everybody')
    _check_condition(found.get("condition", {}), f"{path}.condition", problems)


def _texts(found: Mapping[str, Any], name: str, path: str, problems: Problems) -> list[str]:
    value = found.get(name)
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not values or not all(isinstance(each, str) for each in values):
        problems.add(f"{path}.{name}", "must be text or a list of texts" if name in found else "is missing")
        return []
    return values


def _check_actions(actions: list[str], path: str, problems: Problems) -> None:
    for number, action in enumerate(actions):
        service, found, rest = action.removeprefix("name/").partition(":")
        if action != "*" and not (found and service in ("cos", "*", "ci") and rest):
            problems.add(
                f"{path}.action[{number}]", "must be * or name/cos:ACTION, such as name/cos:GetObject"
            )


def _check_principal(value: Any, path: str, problems: Problems) -> None:
    if isinstance(value, dict):
        kinds = {name.lower(): inner for name, inner in value.items()}
        if not kinds or kinds.keys() - {"qcs", "federated", "service"}:
            problems.add(path, 'must be {"qcs": ["qcs::cam::…"]}')
            return
        texts = [each for name in kinds for each in _texts(kinds, name, path, problems)]
    elif isinstance(value, str | list):
        texts = _texts({"principal": value}, "principal", path.rpartition(".")[0], problems)
    else:
        problems.add(path, 'must be {"qcs": ["qcs::cam::…"]}')
        return
    for text in texts:
        if text != "*" and not text.startswith("qcs:") and not text.isdigit():
            problems.add(
                path, f"{text!r} names nobody; write qcs::cam::uin/UIN:uin/UIN or qcs::cam::anyone:anyone"
            )


def _check_condition(value: Any, path: str, problems: Problems) -> None:
    if not isinstance(value, dict):
        problems.add(path, "must be an object: {OPERATOR: {KEY: VALUE}}")
        return
    for operator, tests in value.items():
        plain = operator.lower().removesuffix("_if_exist").rpartition(":")[2]
        if plain not in _OPERATORS:
            problems.add(
                f"{path}.{operator}", f"there is no such operator; there are {', '.join(_OPERATORS)}"
            )
        elif not isinstance(tests, dict) or not tests:
            problems.add(f"{path}.{operator}", "must be an object: {KEY: VALUE}")
        else:
            for key, values in tests.items():
                each = values if isinstance(values, list) else [values]
                if not each or not all(isinstance(one, str | int | float) for one in each):
                    problems.add(f"{path}.{operator}.{key}", "must be text, a number or a list of them")


POLICY = Setting(
    "policy",
    "policy",
    "bucket policy",
    '{"version": "2.0", "statement": [{"effect": "allow", "principal": {"qcs": ["qcs::cam::anyone:anyone"]}, '
    '"action": ["name/cos:GetObject"], "resource": '
    '["qcs::cos:ap-guangzhou:uid/1250000000:bucket-1250000000/public/*"]}]}',
    none=frozenset({"NoSuchPolicy", "NoSuchPolicyVersion"}),
    checker=check_policy,
)
