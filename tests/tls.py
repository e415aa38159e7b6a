"""Servers that encrypt, well or badly: in front of real ones that do not encrypt at all."""

import asyncio
import ssl
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import yarl

from ops.stack.programs import OPENSSL

#: How a server shows who it is: a certificate of our authority, one that nobody signed, one for another host, or none.
Kind = Literal["right", "self-signed", "another host", "plain"]

#: PostgreSQL's request for TLS (its documentation, "Message Formats"), and the answer that agrees.
_SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
_AGREED, _REFUSED = b"S", b"N"
#: Seconds in which clients close their connections by themselves.
_CLOSING_S = 5.0


@dataclass(frozen=True, slots=True)
class Certificates:
    """Certificates in a folder.

    Attributes:
        authority: Of our authority, which clients may be told to trust.
    """

    folder: Path

    @property
    def authority(self) -> Path:
        return self.folder / "authority.pem"

    def context(self, kind: Kind) -> ssl.SSLContext:
        """How a server of this kind shows itself."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / f"{kind}.pem", self.folder / f"{kind}.key")
        return context

    @classmethod
    def create(cls, folder: Path) -> Self:
        """Make them with openssl(1)."""
        made = cls(folder)
        # Not the machine's configuration: it makes every certificate an authority.
        (folder / "openssl.cnf").write_text("[req]\ndistinguished_name = name\n[name]\n")
        key = (
            "-config",
            "openssl.cnf",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        )
        here = "subjectAltName=DNS:localhost,IP:127.0.0.1"

        def run(name: str, *arguments: str) -> None:
            files = ("-keyout", f"{name}.key", "-out", f"{name}.pem")
            command = (str(OPENSSL.path), "req", "-x509", *key, *files, *arguments)
            subprocess.run(command, cwd=folder, check=True, capture_output=True)

        authority = (
            "-addext",
            "basicConstraints=critical,CA:TRUE",
            "-addext",
            "keyUsage=critical,keyCertSign",
        )
        run("authority", "-subj", "/CN=an authority of ours", *authority)
        signed = ("-CA", "authority.pem", "-CAkey", "authority.key", "-addext", "basicConstraints=CA:FALSE")
        run("right", *signed, "-subj", "/CN=localhost", "-addext", here)
        run(
            "another host",
            *signed,
            "-subj",
            "/CN=elsewhere.example",
            "-addext",
            "subjectAltName=DNS:elsewhere.example",
        )
        run("self-signed", "-subj", "/CN=localhost", "-addext", here)
        return made


class TlsFront:
    """Decrypts in front of a server, on a loopback port.

    Args:
        url: The server's address, of any scheme.
        certificates: Where to find a certificate of this kind.
        kind: How it shows itself; ``plain`` passes every byte on as it is.
    """

    def __init__(self, url: str, certificates: Certificates, kind: Kind = "right") -> None:
        self._url = yarl.URL(url)
        self._certificates = certificates
        self._kind = kind
        self._tasks: set[asyncio.Task[None]] = set()
        #: Bytes that came in without encryption, except PostgreSQL's request for it.
        self.overheard = b""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        if self._tasks:  # clients that are about to close would be cut off, and warn of it
            await asyncio.wait(self._tasks, timeout=_CLOSING_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def url(self, scheme: str) -> str:
        """Its address, by the name that the right certificate is for."""
        address = self._url.with_host("localhost").with_port(self.port)
        return f"{scheme}{str(address)[len(self._url.scheme) :]}"

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.create_task(self._join(reader, writer)))

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            first = b""
            if self._url.scheme.startswith("postgres"):
                first = await reader.readexactly(len(_SSL_REQUEST))
                if first == _SSL_REQUEST:
                    first = b""
                    writer.write(_REFUSED if self._kind == "plain" else _AGREED)
                    await writer.drain()
            if self._kind != "plain":
                await writer.start_tls(self._certificates.context(self._kind))
            there, back = await asyncio.open_connection(self._url.host, self._url.port)
            back.write(first)
            await asyncio.gather(self._pump(reader, back), self._pump(there, writer, inwards=False))
        except (OSError, asyncio.IncompleteReadError):  # ssl.SSLError is an OSError
            pass
        finally:
            with suppress(RuntimeError):
                writer.transport.abort()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, inwards: bool = True
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                if inwards and self._kind == "plain":
                    self.overheard += data
                writer.write(data)
                await writer.drain()
        writer.transport.abort()
