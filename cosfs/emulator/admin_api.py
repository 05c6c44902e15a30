"""The JSON calls of the admin path: requests, counters, faults, bandwidth, clock, buckets. No HTTP here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any

from cosfs.emulator.clock import Clock
from cosfs.emulator.faults import KINDS, Fault, Faults
from cosfs.emulator.requestlog import Requests
from cosfs.emulator.service import HANDLERS, Service

Json = dict[str, Any]
_FAULT_FIELDS = {field.name: field.type for field in fields(Fault) if not field.name.startswith("_")}
_COUNTED = ("id", "seen", "struck")
_TYPES: dict[object, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
}


class ApiError(Exception):
    """A call that cannot be answered; the text says why."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Api:
    """What a test or the page can ask for, by method and name."""

    def __init__(
        self, service: Service, clock: Clock, status: Json, create_bucket: Callable[[str, str], str]
    ) -> None:
        self._service = service
        self._clock = clock
        self._status = status
        self._create_bucket = create_bucket

    def call(self, method: str, name: str, query: Mapping[str, str], body: Json) -> Any:
        """Do one call; return what JSON is made of."""
        name, _, number = name.partition("/")
        calls = self._calls().get(name)
        if calls is None:
            raise ApiError(404, f"There is no call {name!r}; there are {', '.join(self._calls())}.")
        if method not in calls:
            raise ApiError(405, f"{name} takes {', '.join(calls)}, not {method}.")
        return calls[method]({**query, "id": number}, body)

    def _calls(self) -> dict[str, dict[str, Callable[[Mapping[str, str], Json], Any]]]:
        return {
            "status": {"GET": self._get_status},
            "requests": {"GET": self._get_requests, "DELETE": self._reset},
            "counters": {"GET": self._get_counters, "DELETE": self._reset},
            "faults": {"GET": self._get_faults, "POST": self._add_fault, "DELETE": self._remove_faults},
            "bandwidth": {"GET": self._get_bandwidth, "PUT": self._limit_bandwidth},
            "clock": {"GET": self._get_clock, "POST": self._move_clock, "DELETE": self._reset_clock},
            "buckets": {"GET": self._get_buckets, "POST": self._add_bucket},
        }

    @property
    def _requests(self) -> Requests:
        return self._service.requests

    @property
    def _faults(self) -> Faults:
        return self._service.faults

    def _get_status(self, _query: Mapping[str, str], _body: Json) -> Json:
        return {**self._status, "operations": sorted(HANDLERS), "kinds": KINDS}

    # Requests

    def _get_requests(self, query: Mapping[str, str], _body: Json) -> Json:
        since, limit = int(query.get("since") or 0), int(query.get("limit") or 500)
        return {"requests": [entry._asdict() for entry in self._requests.log(since=since, limit=limit)]}

    def _get_counters(self, _query: Mapping[str, str], _body: Json) -> Json:
        requests = self._requests
        return {
            "total": requests.total,
            "operations": requests.snapshot(),
            "errors": dict(requests.errors),
            "bytes_received": requests.bytes_received,
            "bytes_sent": requests.bytes_sent,
        }

    def _reset(self, _query: Mapping[str, str], _body: Json) -> Json:
        self._requests.reset()
        return {}

    # Faults

    def _get_faults(self, _query: Mapping[str, str], _body: Json) -> Json:
        return {"faults": [_shown(fault) for fault in self._faults.active()]}

    def _add_fault(self, _query: Mapping[str, str], body: Json) -> Json:
        for name, value in body.items():
            if name not in _FAULT_FIELDS or name in _COUNTED:
                known = ", ".join(name for name in _FAULT_FIELDS if name not in _COUNTED)
                raise ValueError(f"a fault has no {name}; it has {known}")
            types = _TYPES[_FAULT_FIELDS[name]]
            if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
                raise ValueError(f"{name} must be of type {_FAULT_FIELDS[name]}")
        return _shown(self._faults.add(Fault(**body)))

    def _remove_faults(self, query: Mapping[str, str], _body: Json) -> Json:
        if not query["id"]:
            self._faults.clear()
            return {}
        found = [fault for fault in self._faults.active() if str(fault.id) == query["id"]]
        if not found:
            raise ApiError(404, f"There is no fault {query['id']}; perhaps it has struck for the last time.")
        self._faults.remove(found[0])
        return {}

    def _get_bandwidth(self, _query: Mapping[str, str], _body: Json) -> Json:
        bandwidth = self._faults.bandwidth
        return {"connection": bandwidth.connection, "total": bandwidth.total}

    def _limit_bandwidth(self, query: Mapping[str, str], body: Json) -> Json:
        self._faults.bandwidth.limit(**{name: int(value) for name, value in body.items()})
        return self._get_bandwidth(query, body)

    # The clock

    def _get_clock(self, _query: Mapping[str, str], _body: Json) -> Json:
        return {"now": self._clock()}

    def _move_clock(self, query: Mapping[str, str], body: Json) -> Json:
        """Take {"advance": seconds} or {"set": Unix seconds or an ISO time}."""
        if "set" in body:
            when = body["set"]
            self._clock.set(datetime.fromisoformat(when) if isinstance(when, str) else float(when))
        else:
            self._clock.advance(float(body["advance"]) if "advance" in body else 0.0)
        return self._get_clock(query, body)

    def _reset_clock(self, query: Mapping[str, str], body: Json) -> Json:
        self._clock.reset()
        return self._get_clock(query, body)

    # Buckets

    def _get_buckets(self, _query: Mapping[str, str], _body: Json) -> Json:
        with self._service.lock:
            found = self._service.emulation.store.buckets()
        names = ("name", "region", "created", "versioning")
        return {"buckets": [{name: getattr(bucket, name) for name in names} for bucket in found]}

    def _add_bucket(self, _query: Mapping[str, str], body: Json) -> Json:
        name = body.get("name")
        if not isinstance(name, str) or not name:
            raise ValueError("a bucket needs a name")
        return {"name": self._create_bucket(name, str(body.get("region", "")))}


def _shown(fault: Fault) -> Json:
    return {name: getattr(fault, name) for name in _FAULT_FIELDS}
