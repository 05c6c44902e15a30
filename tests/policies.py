"""Policies of users of the emulator."""

from __future__ import annotations

READ = ("GetService", "HeadBucket", "GetBucket", "GetObject", "HeadObject")
MULTIPART = (
    "InitiateMultipartUpload", "UploadPart", "UploadPartCopy", "CompleteMultipartUpload",
    "AbortMultipartUpload", "ListParts", "ListMultipartUploads",
)  # fmt: skip


def policy(*actions: str, resource: str = "*", condition: object = None) -> dict[str, object]:
    """A policy that allows these calls."""
    allowed = [f"name/cos:{name}" for name in actions]
    statement: dict[str, object] = {"effect": "allow", "action": allowed, "resource": [resource]}
    if condition is not None:
        statement["condition"] = condition
    return {"version": "2.0", "statement": [statement]}
