"""What a worker makes of each word of its supervisor, and what it answers.

Builds the worker from its first plan. It knows no channel: who talks to whom is for the link.
"""

from typing import TypeAlias

import trio

from balancer.core.backend import BackendId
from balancer.core.board import Board
from balancer.proxy.pool import Report
from balancer.wire.network import Sock
from balancer.worker.http_date import HttpDate
from balancer.worker.messages import (
    Accept,
    Applied,
    Ask,
    Cut,
    Decided,
    Drain,
    LetGo,
    Memory,
    Plan,
    PoolNews,
    Reopen,
    Running,
    RunningExchange,
    SocketKey,
    Sockets,
    Word,
)
from balancer.worker.surroundings import Surroundings
from balancer.worker.worker import Worker

NO_LIMIT = float("inf")

Answer: TypeAlias = Applied | Running


class Obeying:
    """A worker to be, and from its first plan on a worker.

    `ready` is set by that plan, or when there is nothing to wait for any more. `memory`: the board
    as it came, for whoever takes over.
    """

    def __init__(self, around: Surroundings, report: Report) -> None:
        self._around = around
        self._report = report
        self._arrived: dict[SocketKey, Sock] = {}
        self.memory: object = None
        self.board: Board | None = None
        self.plan: Plan | None = None
        self.worker: Worker | None = None
        self.ready = trio.Event()

    def close(self) -> None:
        """Close the sockets that came without a plan."""
        for sock in self._arrived.values():
            sock.close()

    def drain(self, limit_s: float, *, patient: bool = False) -> None:
        """Take nothing new, and end; at once where nothing has begun."""
        if self.worker is None:
            self.ready.set()
        else:
            self.worker.drain(limit_s, patient=patient)

    def obey(self, word: Word, handles: list[object]) -> Answer | None:
        """Do it; what is to be answered."""
        match word:
            case Memory():
                self.memory = handles[0]
                self.board = self._around.board_of(handles[0])
            case Sockets(keys):
                socks = [self._around.sock_of(handle) for handle in handles]
                self._take(dict(zip(keys, socks, strict=True)))
            case Plan():
                return self._follow(word)
            case Reopen():
                self._around.lines.reopen()
            case Drain(limit_s, patient):
                self.drain(NO_LIMIT if limit_s is None else limit_s, patient=patient)
            case _ if self.worker is not None:
                return _ordered(self.worker, word)
            case _:
                pass
        return None

    def _take(self, sockets: dict[SocketKey, Sock]) -> None:
        if self.worker is None:
            self._arrived |= sockets
        else:
            self.worker.sockets.hold(sockets)

    def _follow(self, plan: Plan) -> Applied:
        around = self._around
        assert self.board is not None, "the board comes before the first plan"
        self.plan = plan
        around.lines.obey(plan.log)
        if self.worker is None:
            self.worker = Worker(
                plan,
                self.board,
                network=around.network,
                access=around.lines.access,
                http_date=HttpDate(around.wall),
                rng=around.rng,
                report=self._report,
            )
            self.worker.sockets.hold(self._arrived)
            self._arrived = {}
            self.ready.set()
        else:
            self.worker.obey(plan)
        return Applied(plan.number)


def _ordered(worker: Worker, word: Word) -> Answer | None:
    match word:  # what only goes up is not for us
        case PoolNews(number=number):
            worker.heed(word)
            return Applied(number)
        case Accept(number, slots):
            worker.sockets.accept_for(slots)
            return Applied(number)
        case LetGo(number):
            worker.sockets.let_go()
            return Applied(number)
        case Cut(number, backend):
            return Applied(number, worker.cut(backend))
        case Decided(backend):
            worker.decided(backend)
            return None
        case Ask(number, backend):
            return Running(number, _running(worker, backend))
        case _:
            return None


def _running(worker: Worker, backend: BackendId) -> tuple[RunningExchange, ...]:
    now = trio.current_time()
    return tuple(
        RunningExchange(
            id=exchange.record.request_id,
            method=exchange.record.method,
            path=exchange.record.target,
            client=exchange.record.client,
            age_s=round(now - exchange.record.began, 3),
            bytes=exchange.record.bytes_down,
            protocol=exchange.protocol,
        )
        for exchange in worker.running(backend)
    )
