"""Settings of TLS: certificates of a listener, and what clients must show."""

from typing import Annotated, Literal

from pydantic import Field

from balancer.config.model import Table
from balancer.config.values import FilePath, Items, duration


class Certificate(Table):
    certificate: FilePath = Field(
        description="PEM file: the certificate, then those that vouch for it. Its names choose it."
    )
    key: FilePath | None = Field(
        default=None, description="PEM file of its private key. Default: in the same file."
    )


class ListenerTls(Table):
    certificates: Items[Certificate] = Field(
        min_length=1, description="The first is for whoever asks for no name that is known."
    )
    minimum_version: Literal["1.2", "1.3"] = Field(
        default="1.2", description="The oldest version of TLS that is spoken."
    )
    unknown_name: Literal["default", "refuse"] = Field(
        default="default",
        description='A name that no certificate has gets the first one, or "refuse": no connection.',
    )
    handshake_timeout: Annotated[float, duration()] = Field(
        default=10.0, description="A client has this long to agree on keys."
    )
    client_auth: Literal["off", "optional", "required"] = Field(
        default="off", description="Whether clients show a certificate of their own."
    )
    client_ca: FilePath | None = Field(
        default=None, description="PEM file of the authorities that vouch for clients."
    )
    hsts: Annotated[float, duration(least="1s", most="3650d")] | None = Field(
        default=None,
        description="Browsers are told to use https alone for this long. Default: they are not.",
    )
    hsts_subdomains: bool = Field(
        default=False, description="The same for all names below the one that was asked for."
    )
