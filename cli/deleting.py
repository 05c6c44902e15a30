"""What is said of objects that are deleted."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cosfs.client.model import DeleteFailure, ObjectId

    from .running import Run


def tell_deleted(run: Run, bucket: str) -> Callable[[ObjectId, DeleteFailure | None], None]:
    """Return what reports the end of each deletion."""

    def on_result(found: ObjectId, failure: DeleteFailure | None) -> None:
        target = f"cos://{bucket}/{found.key}"
        run.display.finish()
        if failure is None:
            run.report.deleted(target, found.version_id)
        else:
            error = failure.error()
            run.report.failure("delete", "", target, error, found.version_id)
            run.note_failure(error)

    return on_result
