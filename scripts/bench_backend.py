"""The backend of every bench: one nginx, whose CPU is not counted.

It answers small requests itself and files from memory, on three ports, and on as many further
addresses (127.1.x.y) as a case wants backends. An upload is read whole before it is answered.
"""

import os
from pathlib import Path

from bench_processes import Ports, Program

FEW = 3
SIZES = {"16k": 16 << 10, "1m": 1 << 20, "64m": 64 << 20}

CONFIG = """
daemon off;
{user}
pid {folder}/backend.pid;
error_log {folder}/backend.err;
worker_processes 1;
events {{ worker_connections 15000; }}
http {{
  access_log off;
  client_body_temp_path {folder}/b1; proxy_temp_path {folder}/b2; fastcgi_temp_path {folder}/b3;
  uwsgi_temp_path {folder}/b4; scgi_temp_path {folder}/b5;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000000;
  keepalive_timeout 600s;
  client_max_body_size 0;
  client_body_buffer_size 2m;
  upstream ourselves {{ server unix:{folder}/backend.sock; keepalive 100; keepalive_requests 1000000000; }}
  server {{ listen unix:{folder}/backend.sock; location / {{ return 200 "ok\\n"; }} }}
  server {{
{listen}
    root {folder}/files;
    location = / {{ return 200 "hello from a backend\\n"; }}
    # `return` would answer before the body is here; a request to ourselves waits for it.
    location = /upload {{
      proxy_pass http://ourselves/;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Content-Length "";
      proxy_pass_request_body off;
    }}
    location / {{ }}
  }}
}}
"""


class Backend:
    """A running backend; `addresses(n)` are n ways to it, each a backend of its own to a proxy."""

    def __init__(self, folder: Path, ports: Ports, many: int) -> None:
        self.few = [f"127.0.0.1:{ports.take()}" for _ in range(FEW)]
        shared = ports.take()
        self.many = [f"127.1.{n // 250}.{n % 250 + 1}:{shared}" for n in range(many)]
        files = folder / "files"
        files.mkdir()
        for name, size in SIZES.items():
            (files / name).write_bytes(os.urandom(1 << 14) * (size >> 14))
        listen = "\n".join(f"    listen {address};" for address in (*self.few, *self.many))
        config = folder / "backend.conf"
        config.write_text(CONFIG.format(folder=folder, listen=listen, user=user_line()))
        port = int(self.few[0].rpartition(":")[2])
        self.program = Program(
            ["nginx", "-c", str(config), "-e", str(folder / "backend.err")],
            port,
            folder,
            log=folder / "backend.err",
        )

    def addresses(self, count: int) -> list[str]:
        return self.few[:count] if count <= FEW else self.many[:count]


def user_line() -> str:
    """Under root, nginx's worker would become somebody who may not read our private folder."""
    return "user root;" if os.geteuid() == 0 else ""
