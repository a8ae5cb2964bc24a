"""A process that keeps many connections busy without pause, so that workers have no idle moment.

    python -m tests.support.saturating PORT CONNECTIONS

It runs until its standard input ends, and prints how many answers came. What they say is the same to it.
"""

import select
import socket
import sys

ASK = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def main(port: int, connections: int) -> int:
    answers = 0
    with select.epoll() as epoll:
        there: dict[int, socket.socket] = {}

        def come() -> None:
            sock = socket.create_connection(("127.0.0.1", port))
            there[sock.fileno()] = sock
            epoll.register(sock.fileno(), select.EPOLLIN)
            sock.sendall(ASK)

        for _ in range(connections):
            come()
        epoll.register(0, select.EPOLLIN | select.EPOLLHUP)
        while True:
            for descriptor, _ in epoll.poll():
                if descriptor == 0:
                    return answers
                sock = there[descriptor]
                data = sock.recv(65536)
                if data:
                    answers += 1
                    sock.sendall(ASK)
                else:
                    del there[descriptor]
                    sock.close()
                    come()


if __name__ == "__main__":
    print(main(int(sys.argv[1]), int(sys.argv[2])))
