"""`balancer check`: whether a config file is right, and what to expect of it."""

import json
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from balancer.cli.exits import Exit
from balancer.cli.terminal import printable

if TYPE_CHECKING:
    from balancer.config.errors import ConfigError, Finding
    from balancer.config.load import ParsedConfig
    from balancer.config.settings import Settings
    from balancer.supervisor.certificate_files import Loaded as Certificates


@click.command(short_help="Check a configuration file.")
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Errors and warnings as JSON.")
@click.option("--no-files", is_flag=True, help="Leave certificates and keys unread.")
@click.pass_context
def check(ctx: click.Context, config: Path, as_json: bool, no_files: bool) -> None:
    """Check the file CONFIG, and the certificates that it names, without starting anything.

    Every error is shown, each as FILE:LINE: PLACE: what is wrong, what would be right. Exits 1
    when there are any; warnings change nothing.
    """
    from balancer.config.advice import expectations, warnings_about
    from balancer.config.errors import ConfigErrors
    from balancer.config.load import read_file

    try:
        loaded = read_file(config, os.environ)
        certificates = None if no_files else _certificates(loaded)
    except ConfigErrors as refusal:
        if as_json:
            _print_json(errors=refusal.errors)
        else:
            click.echo(str(refusal), err=True)
        ctx.exit(Exit.REFUSED)
    warnings = loaded.placed([*warnings_about(loaded.settings), *_warnings(certificates)])
    if as_json:
        _print_json(warnings=warnings)
        return
    click.echo(f"{printable(config)}: valid: {_summary(loaded.settings)}")
    for line in expectations(loaded.settings):
        click.echo(f"  {line}")
    for warning in warnings:
        place = f"{warning.file}:{warning.line}"
        click.echo(f"{place}: warning: {warning.path}: {warning.message}", err=True)


def _certificates(loaded: "ParsedConfig") -> "Certificates":
    """What the files of certificates hold. ConfigErrors."""
    from balancer.supervisor.certificate_files import (
        CertificatesUnusable,
        load_certificates,
        read_file,
        stamp_of,
    )

    try:
        return load_certificates(loaded.settings, read_file, stamp_of)
    except CertificatesUnusable as exc:
        raise exc.in_lines_of(loaded) from exc


def _warnings(certificates: "Certificates | None") -> "list[Finding]":
    from balancer.supervisor.certificate_advice import warnings_about

    return [] if certificates is None else list(warnings_about(certificates, time.time()))


def _summary(settings: "Settings") -> str:
    backends = sum(len(pool.backends) for pool in settings.pools.values())
    return ", ".join(
        (
            _counted(len(settings.listeners), "listener"),
            _counted(len(settings.pools), "pool"),
            _counted(backends, "backend"),
        )
    )


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _print_json(
    *, errors: "tuple[ConfigError, ...]" = (), warnings: "tuple[ConfigError, ...]" = ()
) -> None:
    answer = {
        "valid": not errors,
        "errors": [asdict(each) for each in errors],
        "warnings": [asdict(each) for each in warnings],
    }
    click.echo(json.dumps(answer, indent=2, ensure_ascii=False))
