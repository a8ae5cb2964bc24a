"""A WebSocket server that gives every message back, compressed where that is offered.

    python -m tests.support.websocket_echo PORT

Serves until it is killed.
"""

import asyncio
import logging
import sys

from websockets.asyncio import messages
from websockets.asyncio.server import ServerConnection, serve

# A case of the suite sends a message of 4 MiB in pieces of 64 bytes.
messages.MAX_FRAGMENTS = 1 << 20
MESSAGE_BYTES_MAX = 1 << 26


async def _echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


async def _serve(port: int) -> None:
    logging.disable(logging.CRITICAL)  # whoever tests it breaks every rule there is
    async with serve(_echo, "127.0.0.1", port, max_size=MESSAGE_BYTES_MAX, ping_interval=None):
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
