"""The proxies that are compared, and how each is configured.

All alike as far as they can be: one worker or thread (unless a case says otherwise), least
connections, HTTP/1.1 with connections kept to the backends, forwarding fields, no checks of
backends, and one access line a request into a file. What cannot be alike is said in README.md.
"""

import json
import resource
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench_backend import user_line
from venv_apart import Unavailable, python_apart

SCRIPTS = Path(__file__).resolve().parent
BALANCER = SCRIPTS.parent / ".venv" / "bin" / "balancer"
# Of clients; each takes two descriptors, and probes of 1,000 backends and other things need some.
CONNECTIONS_MAX = min(16000, resource.getrlimit(resource.RLIMIT_NOFILE)[1] // 2 - 1200)
# A connection to a backend outlasts the rounds of all others, so that no round begins with dialling.
REST_S = 120
PIPES_MAX = 64  # HAProxy would count on two descriptors for each of 4,000 and not start


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a proxy is to do; `folder` is its own."""

    folder: Path
    port: int
    backends: list[str]
    workers: int = 1
    probe_every_s: float = 0.0  # 0: backends are not probed
    splice: bool = False
    tls_port: int = 0  # above 0: TLS is spoken there
    root: Path | None = None  # the balancer of another checkout

    @property
    def certificate(self) -> str:
        """A certificate with its key in one file."""
        path = self.folder / "edge.pem"
        if not path.exists():
            command = [
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
            ]
            command += ["-nodes", "-days", "9", "-subj", "/CN=bench", "-keyout", str(path)]
            command += ["-addext", "subjectAltName=DNS:bench,IP:127.0.0.1"]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            path.write_text(path.read_text() + done.stdout)
        return str(path)

    def write(self, name: str, text: str) -> str:
        path = self.folder / name
        path.write_text(text)
        return str(path)


def balancer(wanted: Wanted) -> list[str]:
    backends = ", ".join(f'"{address}"' for address in wanted.backends)
    health = ""
    if wanted.probe_every_s:
        health = f'[pools.web.health]\npath = "/"\ninterval = "{wanted.probe_every_s}s"\n'
    tls = ""
    if wanted.tls_port:
        tls = f"""[[listeners]]
bind = "127.0.0.1:{wanted.tls_port}"
tls = {{ certificates = [{{ certificate = "{wanted.certificate}" }}] }}
"""
    config = f"""
workers = {wanted.workers}
[[listeners]]
bind = "127.0.0.1:{wanted.port}"
{tls}[client]
idle_timeout = "10m"
[admin]
socket = "{wanted.folder}/admin.sock"
state = ""
[log]
access = "{wanted.folder}/access.log"
[pools.web]
policy = "least-connections"
backends = [{backends}]
[pools.web.connections]
idle_timeout = "{REST_S}s"
{health}"""
    command = [str(BALANCER), "run", wanted.write("bench.toml", config)]
    return command if wanted.root is None else ["env", f"PYTHONPATH={wanted.root}", *command]


def nginx(wanted: Wanted) -> list[str]:
    folder = wanted.folder
    listed = "\n".join(f"    server {address};" for address in wanted.backends)
    tls = ""
    if wanted.tls_port:
        tls = f"""listen 127.0.0.1:{wanted.tls_port} ssl;
    ssl_certificate {wanted.certificate};
    ssl_certificate_key {wanted.certificate};
    ssl_protocols TLSv1.2 TLSv1.3;"""
    config = f"""
daemon off;
{user_line()}
pid {folder}/nginx.pid;
error_log {folder}/nginx.err;
worker_processes {wanted.workers};
events {{ worker_connections {2 * CONNECTIONS_MAX}; }}
http {{
  # Written in batches, as the balancer does it.
  access_log {folder}/access.log combined buffer=64k flush=1s;
  client_body_temp_path {folder}/b1; proxy_temp_path {folder}/b2; fastcgi_temp_path {folder}/b3;
  uwsgi_temp_path {folder}/b4; scgi_temp_path {folder}/b5;
  keepalive_requests 1000000000;
  keepalive_timeout 600s;
  upstream web {{
    least_conn;
{listed}
    keepalive 2000;
    keepalive_requests 1000000000;
    keepalive_timeout {REST_S}s;
  }}
  server {{
    listen 127.0.0.1:{wanted.port};
    {tls}
    client_max_body_size 0;
    location / {{
      proxy_pass http://web;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
      proxy_set_header X-Real-IP $remote_addr;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Request-ID $request_id;
      # Bodies stream, as with the others; nothing waits in a file.
      proxy_request_buffering off;
      proxy_max_temp_file_size 0;
      proxy_buffer_size 16k;
      proxy_buffers 8 64k;
      proxy_busy_buffers_size 128k;
    }}
  }}
}}
"""
    path = wanted.write("nginx.conf", config)
    return ["nginx", "-c", path, "-e", f"{folder}/nginx.err"]


def haproxy(wanted: Wanted) -> list[str]:
    check = f" check inter {round(wanted.probe_every_s * 1000)}" if wanted.probe_every_s else ""
    listed = "\n".join(
        f"  server s{number} {address}{check}" for number, address in enumerate(wanted.backends)
    )
    config = f"""
global
  maxconn {CONNECTIONS_MAX}
  maxpipes {PIPES_MAX if wanted.splice else 0}
  nbthread {wanted.workers}
  log stdout format raw local0 info
defaults
  mode http
  log global
  option httplog
  option dontlognull
  option forwardfor
  {"option splice-auto" if wanted.splice else ""}
  {"option httpchk GET /" if check else ""}
  http-reuse safe
  timeout connect 5s
  timeout client 600s
  timeout http-keep-alive 600s
  timeout server 60s
  default-server pool-purge-delay {REST_S}s
frontend bench
  bind 127.0.0.1:{wanted.port}
  {f"bind 127.0.0.1:{wanted.tls_port} ssl crt {wanted.certificate}" if wanted.tls_port else ""}
  unique-id-format %{{+X}}o\\ %ci:%cp_%fi:%fp_%Ts_%rt:%pid
  unique-id-header X-Request-ID
  http-request set-header X-Real-IP %[src]
  http-request set-header X-Forwarded-Proto http
  default_backend web
backend web
  balance leastconn
{listed}
"""
    return ["haproxy", "-db", "-f", wanted.write("haproxy.cfg", config)]


def bench_python() -> Path:
    """The interpreter of the Python peers' venv. Raises Unavailable."""
    return python_apart("bench", "aiohttp, uvloop and python-pyproxy")


def aiohttp(wanted: Wanted) -> list[str]:
    script = SCRIPTS / "bench_asyncio_proxy.py"
    listed = wanted.write("backends", "\n".join(wanted.backends))
    access = str(wanted.folder / "access.log")
    return [str(bench_python()), str(script), str(wanted.port), listed, access]


def pyproxy(wanted: Wanted) -> list[str]:
    split = [address.rpartition(":") for address in wanted.backends]
    config = {
        "server": {
            "bind_host": "127.0.0.1",
            "bind_port": wanted.port,
            "keepalive_timeout": 600.0,
            "read_timeout": 600.0,
        },
        "logging": {"level": "warning", "access_log_path": f"{wanted.folder}/access.log"},
        "routes": [
            {
                "path": "/",
                "upstream": {"targets": [{"host": host, "port": int(port)} for host, _, port in split]},
            }
        ],
    }  # fmt: skip
    path = wanted.write("pyproxy.json", json.dumps(config))
    return [str(bench_python().with_name("pyproxy")), "start", path]


@dataclass(frozen=True, slots=True)
class Peer:
    """A proxy: how its command is made, and what must be installed for it."""

    command: Callable[[Wanted], list[str]]
    program: str = ""  # on PATH
    venv: bool = False  # lives in the venv of the Python peers

    def why_not(self) -> str | None:
        """Why it cannot be measured here, if so."""
        if self.program and not shutil.which(self.program):
            return f"{self.program} is not installed"
        if self.venv:
            try:
                bench_python()
            except Unavailable as error:
                return str(error)
        return None


PEERS = {
    "balancer": Peer(balancer),
    "nginx": Peer(nginx, program="nginx"),
    "haproxy": Peer(haproxy, program="haproxy"),
    "aiohttp": Peer(aiohttp, venv=True),
    "pyproxy": Peer(pyproxy, venv=True),
}
