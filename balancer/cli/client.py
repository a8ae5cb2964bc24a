"""Speaks to a running instance through its admin socket, with the standard library alone.

Turns every way of not being answered into one sentence that says what was tried, why it failed and
what to do. It decides nothing about pools.
"""

import errno
import http.client
import json
import os
import pwd
import socket
import stat
import struct
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from typing import cast
from urllib.parse import quote

import click

from balancer.cli.exits import Failed, only_partly, refused, unreachable
from balancer.core.wording import shown

# An instance confirms within 2 s or names who has not; the rest is for a machine under load.
ANSWER_S = 10.0
# First verdicts of new backends may take as long as the configuration says.
LONG_ANSWER_S = 600.0

Fields = dict[str, object]


class Gone(Exception):
    """The instance ended the connection, or ended itself, while it was listened to."""


class Instance:
    """The instance behind one admin socket. Every call opens a connection of its own."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._answer_s = ANSWER_S

    def get(self, path: str) -> Fields:
        return self._ask("GET", path, None)

    def post(self, path: str, fields: Mapping[str, object] | None = None) -> Fields:
        return self._ask("POST", path, fields)

    def post_and_wait(self, path: str) -> Fields:
        """Give a command that may take long to an instance that has shown that it answers."""
        self.text("/livez")
        self._answer_s = LONG_ANSWER_S
        return self.post(path)

    def delete(self, path: str) -> Fields:
        return self._ask("DELETE", path, None)

    def text(self, path: str) -> str:
        """A reply that is text, such as the configuration in force; a refusal is still JSON."""
        with closing(_UnixConnection(self.path, self._answer_s)) as connection:
            response = self._response(connection, "GET", path, None)
            if response.status != http.client.OK:
                raise self._answered(connection, response)
            return self._body(connection, response).decode(errors="replace")

    def lines(self, path: str, *, endless: bool) -> Iterator[Fields]:
        """The JSON objects of a reply, line by line; an endless one ends with Gone."""
        with closing(_UnixConnection(self.path, self._answer_s)) as connection:
            response = self._response(connection, "GET", path, None)
            if response.status != http.client.OK:
                raise self._answered(connection, response)
            if endless:
                connection.wait_without_limit()
            try:
                while line := response.readline():
                    yield _object(line)
            except (OSError, http.client.HTTPException) as error:
                raise Gone from error
            if endless:
                raise Gone

    def _ask(self, method: str, path: str, fields: Mapping[str, object] | None) -> Fields:
        answer = self._answer(method, path, fields)
        if answer.get("again") is True:  # it came too late for a process that is being replaced
            answer = self._answer(method, path, fields)
        if "error" in answer:
            raise Answered(answer)
        return answer

    def _answer(self, method: str, path: str, fields: Mapping[str, object] | None) -> Fields:
        with closing(_UnixConnection(self.path, self._answer_s)) as connection:
            response = self._response(connection, method, path, fields)
            return _object(self._body(connection, response, method))

    def _answered(
        self, connection: "_UnixConnection", response: http.client.HTTPResponse
    ) -> "Answered":
        answer = _object(self._body(connection, response))
        return Answered({"error": f"it answered {response.status}"} | answer)

    def _body(
        self,
        connection: "_UnixConnection",
        response: http.client.HTTPResponse,
        method: str = "GET",
    ) -> bytes:
        try:
            return response.read()
        except (OSError, http.client.HTTPException) as error:
            raise self._no_answer(connection, error, method) from error

    def _response(
        self,
        connection: "_UnixConnection",
        method: str,
        path: str,
        fields: Mapping[str, object] | None,
    ) -> http.client.HTTPResponse:
        body = None if fields is None else json.dumps(fields)
        headers = {} if body is None else {"Content-Type": "application/json"}
        try:
            connection.connect()
        except OSError as error:
            raise unreachable(_not_reachable(self.path, error)) from error
        try:
            # Who hangs up while we speak may have said why: a server with no room for one more does.
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, path, body=body, headers=headers)
            return connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise self._no_answer(connection, error, method) from error

    def _no_answer(self, connection: "_UnixConnection", error: Exception, method: str) -> Failed:
        who = f"the instance at {self.path}"
        changes = method != "GET"
        if isinstance(error, TimeoutError):
            pid = f" (process {connection.pid})" if connection.pid else ""
            what = (
                "took the request and gave no answer" if changes else "is there but did not answer"
            )
            then = ", and ask 'balancer status' what was done" if changes else ""
            return unreachable(
                f"{who}{pid} {what} within {self._answer_s:g} s; look at its log, and whether it is "
                f"stopped or overloaded{then}"
            )
        then = "; ask 'balancer status' what was done" if changes else ""
        return unreachable(f"{who} ended the connection without an answer{then}")


class Answered(Exception):
    """The instance's refusal: `fields["error"]` says why."""

    def __init__(self, fields: Fields) -> None:
        super().__init__(str(fields["error"]))
        self.fields = fields


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, answer_s: float) -> None:
        super().__init__("balancer", timeout=answer_s)
        self._path = path
        self._answer_s = answer_s
        self.pid = 0

    def connect(self) -> None:
        """Connect to the socket file."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # Where many have come at once the kernel lets one that waits stand in the queue, and only
        # that one: with a timeout of Python's it would be refused.
        seconds, fraction = divmod(self._answer_s, 1)
        limit = struct.pack("ll", int(seconds), int(fraction * 1e6))
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        self.sock.connect(self._path)
        while not _has_peer(self.sock):  # a signal, such as that to go on, has ended the wait
            self.sock.connect(self._path)
        self.sock.settimeout(self._answer_s)
        self.pid = peer_pid(self.sock)

    def wait_without_limit(self) -> None:
        self.sock.settimeout(None)


def _has_peer(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


def peer_pid(sock: socket.socket) -> int:
    """The process at the other end of a unix socket; 0 where the system does not tell."""
    with suppress(OSError, AttributeError):
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        pid: int = struct.unpack("3i", credentials)[0]
        return pid
    return 0


def backend_path(pool: str, address: str | None = None, verb: str | None = None) -> str:
    """The API's path of a pool's backends, of one backend, or of one command on it."""
    path = f"/v1/pools/{quoted(pool)}/backends"
    if address is not None:
        path += f"/{quoted(address)}"
    return path if verb is None else f"{path}/{verb}"


def quoted(name: str) -> str:
    """A name of the command line, as a part of a path or a query."""
    try:
        return quote(name, safe="")
    except UnicodeEncodeError:
        raise refused(f"{shown(name)} is no UTF-8 text, so nothing has that name") from None


def say_done(answer: Fields) -> None:
    """Print what was done; exit 4 when workers have not confirmed it."""
    click.echo(answer.get("message", "done"))
    laggards = answer.get("laggards")
    if isinstance(laggards, list) and laggards:
        names = ", ".join(str(name) for name in laggards)
        raise only_partly(f"saved, and not yet confirmed by {names}")


def as_refused(refusal: Answered) -> Failed:
    return refused(str(refusal))


def _object(text: bytes) -> Fields:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise unreachable("what answers at this socket is no balancer")
    return cast("Fields", value)


def _not_reachable(path: str, error: OSError) -> str:
    start = "start one with 'balancer run', or name its socket with --admin or BALANCER_ADMIN"
    match error.errno:
        case errno.ENOENT if (pid := _holder(path)) is not None:
            return (
                f"no way to the instance at {path}: process {pid} has it, but the file is gone; if "
                f"it neither starts nor stops just now, end it (kill {pid}) and start it again"
            )
        case errno.ENOENT | errno.ENOTDIR:
            return f"no instance at {path}: there is no such file; {start}"
        case errno.ECONNREFUSED if not _is_socket(path):
            return f"no instance at {path}: it is no socket; {start}"
        case errno.ECONNREFUSED:
            return f"no instance at {path}: the file is there, but nobody listens any more; {start}"
        case errno.EACCES | errno.EPERM:
            return f"no access to {path}: permission denied; {_whose(path)}"
        case errno.EAGAIN:
            return (
                f"an instance at {path} is there but accepts no connection; look at its log, and "
                "whether it is stopped or overloaded"
            )
        case _:
            return f"cannot reach an instance at {path}: {error.strerror or error}; {start}"


def _is_socket(path: str) -> bool:
    with suppress(OSError):
        return stat.S_ISSOCK(os.stat(path).st_mode)
    return True


def _holder(path: str) -> int | None:
    """The process that has named itself in the lock beside the socket, if it is still there."""
    with suppress(OSError, ValueError, KeyError, TypeError), open(f"{path}.lock", "rb") as lock:
        pid = int(json.load(lock)["pid"])
        if os.path.exists(f"/proc/{pid}"):
            return pid
    return None


def _whose(path: str) -> str:
    with suppress(OSError, KeyError):
        owner = pwd.getpwuid(os.stat(path).st_uid).pw_name
        return f"run this command as {owner}, who runs the instance"
    return "run this command as the user who runs the instance"
