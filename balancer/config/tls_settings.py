"""Settings of TLS: certificates of a listener, what clients must show, and whom a pool believes."""

from typing import Annotated, Literal

from pydantic import Field

from balancer.config import http_values as http
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
        min_length=1,
        description="One table for each; the first is for whoever asks for no name that is known. Two with"
        " the same names, an RSA and an ECDSA key, are used together.",
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


class BackendTls(Table):
    ca: FilePath | None = Field(
        default=None,
        description="File with the authorities that backends are believed by. Default: the system's.",
    )
    server_name: http.ServerName | None = Field(
        default=None,
        description="The name that backends are asked for and must prove. Default: that of the address.",
    )
    verify: bool = Field(default=True, description="Refuse backends that cannot prove their name.")
    certificate: FilePath | None = Field(
        default=None,
        description="Client certificate shown to backends, with its chain. Default: none.",
    )
    key: FilePath | None = Field(
        default=None, description="The key of the client certificate. Default: in the same file."
    )
