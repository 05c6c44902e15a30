"""The way to a server, which can be cut and repaired."""

from __future__ import annotations

import socket
import threading
import time

from tests.ports import held


class Line:
    """The way to an emulator, which can be cut: connections are refused, or lead nowhere.

    With a rate each connection moves so many bytes a second each way, and holds few of them.
    """

    def __init__(self, port: int, rate: int = 0) -> None:
        self._rate = rate
        self._target = port
        self._holder = held()  # nobody else gets the port while nothing listens there
        self.port: int = self._holder.getsockname()[1]
        self._listener = self._listen()
        self._is_hole = self._is_cut = False
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._start()

    def _listen(self) -> socket.socket:
        listener = socket.create_server(("127.0.0.1", self.port), backlog=1024)
        if self._rate:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        return listener

    def _start(self) -> None:
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            if not self._keep(near) or self._is_hole:
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                near.close()
                continue
            if not self._keep(far):
                continue
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._copy, args=(one, other), daemon=True).start()

    def _keep(self, connection: socket.socket) -> bool:
        """Have a connection closed with the others; it may come at the moment when they are."""
        with self._lock:
            if self._is_cut:
                connection.close()
            else:
                self._open.add(connection)
            return not self._is_cut

    def _copy(self, one: socket.socket, other: socket.socket) -> None:
        try:
            while data := one.recv(self._rate // 16 or 65536):
                if self._is_hole:
                    return  # lost on the way
                if self._rate:
                    time.sleep(len(data) / self._rate)
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def _hang_up(self) -> None:
        with self._lock:
            for each in self._open:
                try:
                    each.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
                each.close()
            self._open.clear()

    def refuse(self) -> None:
        with self._lock:
            self._is_cut = True
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it was closed before
        self._listener.close()
        self._hang_up()

    def swallow(self) -> None:
        """Take everything and answer nothing, on connections that are open too."""
        self._is_hole = True

    def cut(self, how: str) -> None:
        self.refuse() if how == "refused" else self.swallow()

    def repair(self) -> None:
        if self._is_hole:
            self._is_hole = False
            self._hang_up()
        else:
            self._is_cut = False
            self._listener = self._listen()
            self._start()

    def close(self) -> None:
        self.refuse()
        self._holder.close()
