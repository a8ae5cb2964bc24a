"""Backends whose script has the raw connection before anything was read: for the odd timings."""

import socket
from collections.abc import Awaitable, Callable

import trio

from balancer.rehearsal.memory_network import MemoryNetwork
from tests.support.scene import ADDRESSES, Scene
from tests.support.scripted_http import HTTP_HEAD_END, Line

RawScript = Callable[[Line], Awaitable[object]]


async def raw(play: Scene, name: str, script: RawScript) -> None:
    """From now on the backend `name` of the scene is this script, a connection at a time each."""
    play.backends[name].kill()
    ip = ADDRESSES[name].rpartition(":")[0]
    await play.nursery.start(_serve, play.network, ip, script)


async def head_of(line: Line) -> bytes:
    """The next request's head; OSError when the connection ends instead."""
    while HTTP_HEAD_END not in line.buffer:
        if not await line.more():
            raise OSError("the connection ended")
    head, _, line.buffer = line.buffer.partition(HTTP_HEAD_END)
    return head


async def _serve(
    network: MemoryNetwork, ip: str, script: RawScript, task_status: trio.TaskStatus[None]
) -> None:
    view = network.as_seen_from(ip)
    listener = view.socket(socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((ip, 80))
    listener.listen(64)
    task_status.started()
    number = 0
    async with trio.open_nursery() as nursery:
        while True:
            try:
                sock, _ = listener.accept()
            except BlockingIOError:
                await view.wait_readable(listener)
                continue
            number += 1
            nursery.start_soon(_one, Line(view, sock, number), script)


async def _one(line: Line, script: RawScript) -> None:
    try:
        await script(line)
    except OSError:
        pass  # the other side is gone, which is what such scripts are about
    finally:
        line.close()
