"""`balancer config`: the schema of config files, and a config as it takes effect."""

import os
from pathlib import Path

import click

from balancer.cli.exits import refused
from balancer.cli.place import admin_option


@click.group(short_help="Print the schema or the result.")
def config() -> None:
    """Print the schema of configuration files, or what a configuration amounts to."""


@config.command(short_help="Print the JSON Schema of configuration files.")
def schema() -> None:
    """Print the JSON Schema of configuration files.

    For an editor: save it, and begin the file with a line such as: #:schema ./schema.json
    """
    from balancer.config.schema import schema_text

    click.echo(schema_text(), nl=False)


@config.command(short_help="Print a configuration with all its defaults.")
@click.argument("config_file", metavar="[CONFIG]", required=False, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="As JSON: seconds and bytes as numbers.")
@admin_option
def show(config_file: Path | None, as_json: bool, admin: str) -> None:
    """Print what the file CONFIG amounts to, or what the running instance follows.

    Every setting is there, with defaults and variables filled in, so secrets from the environment
    are shown too. The output is a configuration itself. That of a running instance has in it what
    was changed at run time.
    """
    from balancer.config.errors import ConfigErrors
    from balancer.config.load import load_file, load_text
    from balancer.config.show import as_json as json_of
    from balancer.config.show import effective_toml

    try:
        if config_file is not None:
            settings = load_file(config_file, os.environ)
            click.echo(json_of(settings) if as_json else effective_toml(settings), nl=as_json)
            return
        text = _of_instance(admin)
        click.echo(json_of(load_text(text, admin, {})) if as_json else text, nl=as_json)
    except ConfigErrors as errors:
        raise refused(str(errors)) from errors


def _of_instance(admin: str) -> str:
    from balancer.cli.client import Answered, Instance, as_refused

    try:
        return Instance(admin).text("/v1/config")
    except Answered as refusal:
        raise as_refused(refusal) from refusal
