"""How a connection is secured: TLS to databases, TLS and SASL to Kafka."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator

from gravity.config.model import Model, at


class Tls(Model):
    """TLS of one connection."""

    mode: Literal["disabled", "preferred", "required", "verify-ca", "verify-identity"] = Field(
        "verify-identity",
        description=(
            "How much is asked of the server: `preferred` encrypts if it can, `required` always, "
            "`verify-ca` also checks the certificate, `verify-identity` the host name as well."
        ),
    )
    ca: Path | None = Field(
        None, description="File with the authorities to trust (PEM); unset = the system's."
    )
    cert: Path | None = Field(None, description="File with the client's certificate (PEM).")
    key: Path | None = Field(None, description="File with the client's private key (PEM).")

    @model_validator(mode="after")
    def _certificate_and_key_come_together(self) -> Self:
        if self.cert is not None and self.key is None:
            raise at("cert", "a client certificate needs its key")
        if self.key is not None and self.cert is None:
            raise at("key", "a client key needs its cert")
        return self


class Sasl(Model):
    """A login at Kafka."""

    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="How the password is proved."
    )
    username: str = Field(description="Name to log in with.")
    password: SecretStr = Field(
        description="Password. Better `${NAME}` or `password-file: /run/secrets/name`."
    )


class KafkaSecurity(Model):
    """How a Kafka cluster is reached."""

    protocol: Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"] = Field(
        "plaintext", description="With or without TLS (`ssl`) and login (`sasl`)."
    )
    sasl: Sasl | None = Field(
        None,
        description="The login, where `protocol` asks for one.",
        examples=[{"username": "gravity", "password": "${KAFKA_PASSWORD}"}],
    )
    tls: Tls | None = Field(
        None,
        description="Certificates, where `protocol` says `ssl`.",
        examples=[{"ca": "/etc/kafka/ca.pem"}],
    )

    @model_validator(mode="after")
    def _parts_fit_the_protocol(self) -> Self:
        if self.protocol.startswith("sasl") and self.sasl is None:
            raise at("protocol", f"{self.protocol} needs sasl: {{username, password}}")
        if self.sasl is not None and not self.protocol.startswith("sasl"):
            raise at("sasl", f"not used with protocol {self.protocol}; say sasl_ssl")
        if self.tls is not None and not self.protocol.endswith("ssl"):
            raise at("tls", f"not used with protocol {self.protocol}; say ssl or sasl_ssl")
        return self
