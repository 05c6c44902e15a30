"""Objects that are looked at and read."""

from __future__ import annotations

import math
from collections.abc import Mapping

from cosfs.client.buckets import Buckets
from cosfs.client.checks import extent
from cosfs.client.headers import object_info, whole_size
from cosfs.client.model import ObjectInfo
from cosfs.client.operations import conditions_of, not_modified, version_params
from cosfs.client.retry import Attempt
from cosfs.client.session import NOTHING, Call
from cosfs.client.stream import ObjectStream
from cosfs.errors import NetworkError, NotCosError, ServiceError, UsageError

__all__ = ["Reading"]


class Reading(Buckets):
    """Objects that are looked at and read."""

    def head_object(
        self,
        bucket: str,
        key: str,
        *,
        version_id: str = "",
        if_match: str = "",
        if_none_match: str = "",
        headers: Mapping[str, str] = NOTHING,
    ) -> ObjectInfo | None:
        """Return what COS knows about an object; None if it still has the etag if_none_match."""
        call = Call("HeadObject", "HEAD", bucket, key, version_params(version_id))
        call.headers = {**headers, **conditions_of(if_match, if_none_match)}

        def operation(attempt: Attempt) -> ObjectInfo | None:
            try:
                response = self._session.send(call, attempt)
            except ServiceError as error:
                self._explain(call, error, attempt)
                raise
            with response:
                if response.status == 304:
                    return None
                return object_info(key, response.headers, whole_size(response.headers, call.target))

        return self._session.run_operation(call, operation)

    def _explain(self, call: Call, error: ServiceError, attempt: Attempt) -> None:
        """Raise the reason of a HEAD error, which has no body to say it, if a GET tells one."""
        doubtful = error.status == 404 and call.bucket not in self._session.seen
        if error.status == 404 and not error.code and not doubtful:
            # What COS would have said in a body; with a version it could be either.
            error.code = "" if call.params.get("versionId") else "NoSuchKey"
        if error.code or not (doubtful or error.status in (400, 403)):
            return
        ranged = {**call.headers, "Range": "bytes=0-0"}
        reason = Call("GetObject", "GET", call.bucket, call.key, call.params, ranged)
        reason.redirected = call.redirected
        reason.instead_of = call.operation
        try:
            self._session.send(reason, attempt).close()
        except ServiceError as answer:
            # An empty object has no byte 0: then HEAD alone was refused.
            if answer.status != 416:
                raise

    def get_object(
        self,
        bucket: str,
        key: str,
        *,
        start: int = 0,
        stop: int | None = None,
        if_match: str = "",
        if_none_match: str = "",
        version_id: str = "",
        headers: Mapping[str, str] = NOTHING,
        deadline: float = math.inf,
    ) -> ObjectStream:
        """Open the bytes [start, stop) of an object; they end with the object if it is shorter.

        headers are sent as they are (a traffic limit, the customer's key). deadline is that of a stream that
        broke off and is gone on with (time.monotonic).
        Raises ServiceError with code InvalidRange if start is at or behind the end, unless it is
        0: an empty object gives an empty stream. An object that still has the etag if_none_match
        raises ServiceError with code NotModified.
        """
        if start < 0 or (stop is not None and stop < start):
            raise UsageError(f"{start} to {stop} is not a range of bytes")
        conditions = conditions_of(if_match, if_none_match)
        if stop is not None and stop == start:
            return self._empty_stream(bucket, key, start, version_id, {**headers, **conditions})
        sent = {**headers, **conditions}
        if start or stop is not None:
            sent["Range"] = f"bytes={start}-{'' if stop is None else stop - 1}"
        call = Call("GetObject", "GET", bucket, key, version_params(version_id), sent)
        try:
            stream = self._session.run_operation(
                call, lambda attempt: self._open(call, start, stop, attempt), deadline
            )
        except ServiceError as error:
            if error.status == 416 and start == 0:
                return self._empty_stream(bucket, key, 0, version_id, {**headers, **conditions})
            raise
        stream.limit_silence_only()
        return stream

    def _empty_stream(
        self, bucket: str, key: str, start: int, version_id: str, conditions: Mapping[str, str]
    ) -> ObjectStream:
        """Return an empty range: there is no way to ask for one, so only the object is looked at."""
        info = self.head_object(bucket, key, version_id=version_id, headers=conditions)
        if info is None:
            raise not_modified(f"cos://{bucket}/{key}")
        return ObjectStream(info, start, start, None)

    def _open(self, call: Call, start: int, stop: int | None, attempt: Attempt) -> ObjectStream:
        response = self._session.send(call, attempt)
        try:
            if response.status == 304:
                raise not_modified(call.target)
            ranged = "Range" in call.headers
            first, last, size = extent(response, ranged, call.target)
            if first != start or (stop is not None and last > stop):
                raise NotCosError(f"{response.host} answered with other bytes than {start} to {stop}")
            if ranged and response.status == 206 and last != min(size, stop if stop is not None else size):
                raise NetworkError(f"{response.host} answered with fewer bytes than were asked for")
            info = object_info(call.key or "", response.headers, size)
        except BaseException:
            response.close()
            raise
        return ObjectStream(info, start, last, response, lambda n: self.stats.add(received=n))

    def get_range(
        self, bucket: str, key: str, start: int, stop: int, *, if_match: str = "", version_id: str = ""
    ) -> tuple[ObjectInfo, bytes]:
        """Return the bytes [start, stop) of an object, fewer only if it ends before.

        A body that breaks off is gone on with where it broke, as long as the object is the same.
        """
        if stop <= start:
            with self.get_object(
                bucket, key, start=start, stop=stop, if_match=if_match, version_id=version_id
            ) as stream:
                return stream.info, b""
        pieces: list[bytes] = []
        filled, info = 0, None
        call = Call("GetObject", "GET", bucket, key, params=version_params(version_id), expects=stop - start)

        def operation(attempt: Attempt) -> None:
            nonlocal filled, info
            call.headers = {
                **conditions_of(info.etag if info else if_match, ""),
                "Range": f"bytes={start + filled}-{stop - 1}",
            }
            with self._open(call, start + filled, stop, attempt) as stream:
                if info is not None and stream.info.size != info.size:
                    raise NotCosError(f"{call.target} has another size than a moment ago")
                info = stream.info
                for piece in stream.chunks():
                    pieces.append(piece)
                    filled += len(piece)

        try:
            self._session.run_operation(call, operation)
        except ServiceError as error:
            if error.status == 416 and start == 0:
                return self._empty_stream(bucket, key, 0, version_id, conditions_of(if_match, "")).info, b""
            raise
        assert info is not None
        # Joining costs less than one large buffer: the memory of the pieces is at hand already.
        return info, pieces[0] if len(pieces) == 1 else b"".join(pieces)
