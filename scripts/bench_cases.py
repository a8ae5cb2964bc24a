"""The cases: who takes part, under what load, and which figure the balancer shall reach."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from bench_backend import FEW, SIZES
from bench_load import Traffic
from bench_report import Case, Column, Goal

MANY = 1000
SMALL_GET = Traffic()
RESTING = 5000

CPU = Column("cpu_us", "worker CPU µs", 1)
ALL_CPU = Column("all_us", "all CPU µs", 1)
TRAFFIC = (
    CPU,
    ALL_CPU,
    Column("per_s", "requests/s"),
    Column("p50_ms", "p50 ms", 2),
    Column("p99_ms", "p99 ms", 2),
    Column("memory_mib", "memory MiB", 1),
)


@dataclass(frozen=True, slots=True)
class Entrant:
    """One row: a peer, and what is special about it here."""

    label: str
    peer: str
    backends: int = FEW
    workers: int = 1
    probe_every_s: float = 0.0
    splice: bool = False
    tls: bool = False
    root: Path | None = None  # the balancer of another checkout


How = Literal["traffic", "resting", "start", "probing"]


@dataclass(frozen=True, slots=True)
class Plan:
    """A case and how it is measured."""

    case: Case
    entrants: tuple[Entrant, ...]
    how: How = "traffic"
    traffic: Traffic = SMALL_GET
    unit_bytes: int = 0  # above 0: work is counted in answers of this size, broken-off ones too

    def limited_to(self, peers: Iterable[str]) -> "Plan":
        kept = tuple(entrant for entrant in self.entrants if entrant.peer in set(peers))
        return replace(self, entrants=kept)

    def beside(self, root: Path) -> "Plan":
        """With each balancer once more, from another checkout, for a comparison in one run."""
        others = [
            replace(one, label=f"{one.label} (other)", root=root)
            for one in self.entrants
            if one.peer == "balancer"
        ]
        return replace(self, entrants=(*others, *self.entrants))

    def seconds(self, rounds: int, round_s: float) -> float:
        """About how long it takes."""
        each = {
            "traffic": rounds * (round_s + 0.3) + 3,
            "resting": 15 + round_s,
            "start": min(rounds, 5) * 2,
            "probing": 40,
        }
        return 2 + len(self.entrants) * each[self.how]


ALL = tuple(Entrant(peer, peer) for peer in ("balancer", "nginx", "haproxy", "aiohttp", "pyproxy"))
SPLICED = Entrant("haproxy, splice", "haproxy", splice=True)
BODIES = (*ALL[:3], SPLICED, *ALL[3:])
NO_WORSE_THAN_HALF_AIOHTTP = Goal(0.5, "aiohttp")


def traffic(
    name: str, title: str, load: Traffic, *goals: Goal, entrants: tuple[Entrant, ...] = ALL
) -> Plan:
    return Plan(Case(name, title, TRAFFIC, CPU.key, goals=goals), entrants, traffic=load)


def large(name: str, size: str, connections: int, *goals: Goal) -> Plan:
    load = Traffic(f"/{size}", connections=connections)
    title = f"GET {SIZES[size] >> 20} MiB, {connections} connections; CPU for each {SIZES[size] >> 20} MiB carried"
    return replace(traffic(name, title, load, *goals, entrants=BODIES), unit_bytes=SIZES[size])


def with_backends(count: int, *, probe_every_s: float = 0.0) -> tuple[Entrant, ...]:
    return tuple(replace(one, backends=count, probe_every_s=probe_every_s) for one in ALL)


def over_tls(name: str, title: str, load: Traffic, *goals: Goal) -> Plan:
    entrants = tuple(replace(one, tls=True) for one in ALL[:3])
    return traffic(name, title, load, *goals, entrants=entrants)


PLANS = (
    traffic(
        "small-get", "GET 21 bytes, 8 connections kept alive", SMALL_GET,
        Goal(4, "nginx"), NO_WORSE_THAN_HALF_AIOHTTP,
    ),
    traffic("small-get-64", "the same with 64 connections", Traffic(connections=64), Goal(4, "nginx")),
    traffic(
        "small-post", "POST 512 bytes, 8 connections", Traffic("/upload", upload_bytes=512),
        Goal(4.5, "nginx"),
    ),
    traffic("get-16k", "GET 16 KiB, 8 connections", Traffic("/16k"), Goal(2.2, "nginx")),
    large("get-1m", "1m", 8, Goal(0.7, "haproxy")),
    large("get-64m", "64m", 4, Goal(0.7, "haproxy")),
    traffic(
        "post-1m", "POST 1 MiB, 8 connections", Traffic("/upload", upload_bytes=1 << 20),
        Goal(1.0, "haproxy"), entrants=BODIES,
    ),
    traffic(
        "thousand", "small GET, 64 connections, 1,000 backends", Traffic(connections=64),
        Goal(1.15, "balancer, 3 backends"),
        entrants=(Entrant("balancer, 3 backends", "balancer"), *with_backends(MANY)),
    ),
    Plan(
        Case(
            "two-workers", "small GET, 256 connections, a second worker",
            (*TRAFFIC, Column("busiest_pct", "busiest worker's share of CPU %")),
            CPU.key, "balancer, 1 worker",
            (Goal(1.1, "balancer, 1 worker", subject="balancer, 2 workers"),),
        ),
        (
            Entrant("balancer, 1 worker", "balancer"),
            Entrant("balancer, 2 workers", "balancer", workers=2),
        ),
        traffic=Traffic(connections=256),
    ),
    over_tls("tls-get", "GET 21 bytes over TLS, 8 connections", Traffic(tls=True), Goal(3, "nginx")),
    over_tls("tls-get-1m", "GET 1 MiB over TLS, 8 connections", Traffic("/1m", tls=True)),
    replace(
        over_tls("tls-handshakes", "", Traffic(handshakes=True)),
        case=Case(
            "tls-handshakes", "full handshakes with ECDSA, one connection at a time",
            (CPU, ALL_CPU, Column("per_s", "handshakes/s")), CPU.key,
        ),
    ),
    Plan(
        Case(
            "resting", f"{RESTING:,} connections at rest, and a small GET load on 8 beside them",
            (Column("kib_each", "KiB a connection", 1), *TRAFFIC), "kib_each",
            goals=(Goal(12),),
        ),
        ALL,
        how="resting",
    ),
    Plan(
        Case(
            "start", "from exec to the first answer, 100 backends",
            (Column("start_ms", "ms"),), "start_ms", goals=(Goal(1000),),
        ),
        with_backends(100, probe_every_s=10),
        how="start",
    ),
    Plan(
        Case(
            "probing", "1,000 backends probed every 5 s, no traffic",
            (
                Column("probing_pct", "supervisor's % of a core", 1),
                Column("all_pct", "all processes' %", 1),
                Column("memory_mib", "memory MiB", 1),
            ),
            "probing_pct", "haproxy", (Goal(15),),
        ),
        tuple(one for one in with_backends(MANY, probe_every_s=5) if one.peer in ("balancer", "haproxy")),
        how="probing",
    ),
)  # fmt: skip
