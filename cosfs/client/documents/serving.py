"""How objects are served: cross-origin rules, websites, origins, domains, acceleration."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from cosfs.client.documents.schema import Choice, Field, Flag, Number, Problems, Struct, Text
from cosfs.client.documents.setting import Setting

__all__ = ["ACCELERATE", "CERTIFICATE", "CORS", "DOMAIN", "ORIGIN", "WEBSITE"]

_ENABLED = Choice(("Enabled", "Disabled"))

CORS = Setting(
    "cors",
    "cors",
    "CORS configuration",
    '{"CORSRules": [{"AllowedOrigins": ["https://www.example.com"], "AllowedMethods": ["GET", "HEAD"], '
    '"AllowedHeaders": ["*"], "MaxAgeSeconds": 600}]}',
    "CORSConfiguration",
    Struct(
        (
            Field(
                "CORSRules",
                Struct(
                    (
                        Field("ID", Text(most=255)),
                        Field(
                            "AllowedOrigins",
                            Text(1, 1024, r"[^*\s]*\*?[^*\s]*", "an origin with at most one *"),
                            xml="AllowedOrigin",
                            many=True,
                            required=True,
                        ),
                        Field(
                            "AllowedMethods",
                            Choice(("GET", "PUT", "HEAD", "POST", "DELETE")),
                            xml="AllowedMethod",
                            many=True,
                            required=True,
                        ),
                        Field("AllowedHeaders", Text(1, 1024), xml="AllowedHeader", many=True),
                        Field(
                            "ExposeHeaders",
                            Text(1, 1024, r"[^*]*", "a name without *"),
                            xml="ExposeHeader",
                            many=True,
                        ),
                        Field("MaxAgeSeconds", Number(0, 2**31 - 1)),
                    )
                ),
                xml="CORSRule",
                many=True,
                required=True,
                most=100,
            ),
            Field("ResponseVary", Choice(("true", "false"))),
        )
    ),
    frozenset({"NoSuchCORSConfiguration"}),
)


def _check_website(document: Mapping[str, Any], path: str, problems: Problems) -> None:
    if "IndexDocument" not in document and "RedirectAllRequestsTo" not in document:
        problems.add("IndexDocument", "is missing")


_PROTOCOL = Choice(("http", "https"))
_ROUTING_RULE = Struct(
    (
        Field(
            "Condition",
            Struct(
                (
                    Field("HttpErrorCodeReturnedEquals", Number(400, 499)),
                    Field("KeyPrefixEquals", Text(1, 850)),
                ),
                any_of=("HttpErrorCodeReturnedEquals", "KeyPrefixEquals"),
            ),
            required=True,
        ),
        Field(
            "Redirect",
            Struct(
                (
                    Field("Protocol", _PROTOCOL),
                    Field("HostName", Text(1)),
                    Field("ReplaceKeyWith", Text(1, 850)),
                    Field("ReplaceKeyPrefixWith", Text(most=850)),
                    Field("HttpRedirectCode", Choice(("301", "302", "303", "307", "308"))),
                ),
                at_most_one=(("ReplaceKeyWith", "ReplaceKeyPrefixWith"),),
            ),
            required=True,
        ),
    )
)
WEBSITE = Setting(
    "website",
    "website",
    "website configuration",
    '{"IndexDocument": {"Suffix": "index.html"}, "ErrorDocument": {"Key": "error.html"}}',
    "WebsiteConfiguration",
    Struct(
        (
            Field(
                "IndexDocument",
                Struct((Field("Suffix", Text(1, 850, r"[^/]*\S[^/]*", "a name without /"), required=True),)),
            ),
            Field(
                "ErrorDocument",
                Struct((Field("Key", Text(1, 850), required=True), Field("OriginalHttpStatus", _ENABLED))),
            ),
            Field(
                "RedirectAllRequestsTo", Struct((Field("HostName", Text(1)), Field("Protocol", _PROTOCOL)))
            ),
            Field("AutoAddressing", Struct((Field("Status", _ENABLED, required=True),))),
            Field("RoutingRules", _ROUTING_RULE, item="RoutingRule", most=100),
        ),
        check=_check_website,
    ),
    frozenset({"NoSuchWebsiteConfiguration"}),
)

# --- origins

_HEADER_LIST = Struct((Field("Key", Text(1), required=True), Field("Value", Text())))
_PARAMETER = Struct(
    (
        Field("Protocol", Choice(("HTTP", "HTTPS", "FOLLOW"))),
        Field("FollowQueryString", Flag()),
        Field(
            "HttpHeader",
            Struct(
                (
                    Field("FollowAllHeaders", Flag()),
                    Field("NewHttpHeaders", _HEADER_LIST, item="Header"),
                    Field(
                        "FollowHttpHeaders", Struct((Field("Key", Text(1), required=True),)), item="Header"
                    ),
                    Field(
                        "ForbidFollowHeaders", Struct((Field("Key", Text(1), required=True),)), item="Header"
                    ),
                )
            ),
        ),
        Field("FollowRedirection", Flag()),
        Field("HttpRedirectCode", Choice(("301", "302", "307"))),
        Field("CopyOriginData", Flag()),
    )
)
_HOST = Struct(
    (
        Field("HostName", Text(1, 512, r"[^/?#@\s]+", "a host name, perhaps with a port"), required=True),
        Field("Weight", Number(1, 100)),
    )
)
_INFO = Struct(
    (
        Field("HostInfo", _HOST, required=True),
        Field(
            "FileInfo",
            Struct(
                (
                    Field("PrefixDirective", Flag()),
                    Field(
                        "PrefixConfiguration",
                        Struct((Field("Prefix", Text(), required=True), Field("Suffix", Text()))),
                    ),
                    Field("SuffixConfiguration", Struct((Field("Suffix", Text(), required=True),))),
                    Field(
                        "FixedFileConfiguration", Struct((Field("FixedFilePath", Text(1), required=True),))
                    ),
                )
            ),
        ),
    )
)
ORIGIN = Setting(
    "origin",
    "origin",
    "origin configuration",
    '{"OriginRules": [{"RulePriority": 1, "OriginType": "Redirect", "OriginCondition": {'
    '"HTTPStatusCode": "404", "Prefix": "old/"}, '
    '"OriginParameter": {"Protocol": "HTTPS", "HttpRedirectCode": "302"}, '
    '"OriginInfo": {"HostInfo": {"HostName": "www.example.com"}}}]}',
    "OriginConfiguration",
    Struct(
        (
            Field(
                "OriginRules",
                Struct(
                    (
                        Field("RulePriority", Number(1, 100_000), required=True),
                        Field("OriginType", Choice(("Mirror", "Proxy", "Redirect")), required=True),
                        Field(
                            "OriginCondition",
                            Struct(
                                (Field("HTTPStatusCode", Choice(("404",))), Field("Prefix", Text(most=850)))
                            ),
                        ),
                        Field("OriginParameter", _PARAMETER),
                        Field("OriginInfo", _INFO, required=True),
                    )
                ),
                xml="OriginRule",
                many=True,
                required=True,
                most=1000,
                unique="RulePriority",
            ),
        )
    ),
    frozenset({"OriginConfigurationNotFoundError"}),
)

# --- domains and acceleration

_NAME = re.compile(r"([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,}")


def _check_domain(rule: Mapping[str, Any], path: str, problems: Problems) -> None:
    name = rule["Name"].lower()
    if not _NAME.fullmatch(name) or len(name) > 253:
        problems.add(f"{path}.Name", f"must be a domain of yours, not {rule['Name']!r}")
    elif name.endswith((".myqcloud.com", ".tencentcos.cn")):
        problems.add(f"{path}.Name", "is a domain of COS itself")


DOMAIN = Setting(
    "domain",
    "domain",
    "domain configuration",
    '{"DomainRules": [{"Status": "ENABLED", "Name": "static.example.com", "Type": "REST"}]}',
    "DomainConfiguration",
    Struct(
        (
            Field(
                "DomainRules",
                Struct(
                    (
                        Field("Status", Choice(("ENABLED", "DISABLED")), required=True),
                        Field("Name", Text(1), required=True),
                        Field("Type", Choice(("REST", "WEBSITE", "ACCELERATE")), required=True),
                        Field("ForcedReplacement", Choice(("CNAME", "TXT"))),
                    ),
                    check=_check_domain,
                ),
                xml="DomainRule",
                many=True,
                required=True,
                most=20,
                unique="Name",
            ),
        )
    ),
    may_be_empty=True,
)
CERTIFICATE = Setting(
    "certificate",
    "domaincertificate",
    "domain certificate",
    '{"CertificateInfo": {"CertType": "TencentCert", "TencentCert": {"SSLCertId": "abcd1234"}}, '
    '"DomainList": ["static.example.com"]}',
    "DomainCertificate",
    Struct(
        (
            Field(
                "CertificateInfo",
                Struct(
                    (
                        Field("CertType", Choice(("CustomCert", "TencentCert")), required=True),
                        Field(
                            "CustomCert",
                            Struct(
                                (
                                    Field("Cert", Text(1), required=True),
                                    Field("PrivateKey", Text(1), required=True),
                                )
                            ),
                        ),
                        Field("TencentCert", Struct((Field("SSLCertId", Text(1), required=True),))),
                    ),
                    at_most_one=(("CustomCert", "TencentCert"),),
                ),
                required=True,
            ),
            Field("DomainList", Text(1), item="DomainName", required=True, least=1),
        )
    ),
    may_be_empty=True,
    by_id="domainname",
    command="domain certificate",
)
ACCELERATE = Setting(
    "accelerate",
    "accelerate",
    "acceleration configuration",
    '{"Status": "Enabled", "Type": "COS"}',
    "AccelerateConfiguration",
    Struct(
        (Field("Status", Choice(("Enabled", "Suspended")), required=True), Field("Type", Choice(("COS",))))
    ),
    may_be_empty=True,
    deletable=False,
)
