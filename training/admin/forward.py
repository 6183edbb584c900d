"""The audit trail to a syslog server, in order; what it cannot take now it gets later.

Messages are DICOM audit messages (PS3.15 §A.5) with a header of RFC 5424, framed by their length
(RFC 6587 §3.4.1), over TLS as RFC 5425 has it. The trail is the queue: an outage loses nothing.
A batch counts once the server has closed its end after ours; cut off before, it is sent again.
"""

import socket
import ssl
from contextlib import suppress
from typing import Final

import sqlalchemy as sa

from dicom_node import ledger as tables
from dicom_node.settings import Syslog
from training.admin.access import Office
from training.admin.audit_messages import syslog
from training.admin.tables import forwarded

BATCH: Final = 200


def forward(office: Office) -> int:
    """Return how many rows the server took now; 0 = it has them all, or there is none.

    Raises
    ------
    OSError
        If it cannot be reached, or goes away.
    """
    server = office.settings.syslog
    if not server.host:
        return 0
    name = f"{server.host}:{server.port}"
    rows = _rows_after(office, _last(office, name))
    if rows:
        source = office.settings.dicom.ae_title
        _send(server, b"".join(framed(syslog(row, source)) for row in rows))
        _remember(office, name, rows[-1]["id"])
    return len(rows)


def framed(message: str) -> bytes:
    """Return a message with its length before it (RFC 6587 §3.4.1)."""
    data = message.encode()
    return b"%d %b" % (len(data), data)


def _last(office: Office, name: str) -> int:
    query = sa.select(forwarded.c.row).where(forwarded.c.server == name)
    return next((int(row[0]) for row in office.ledger.query(query)), 0)


def _rows_after(office: Office, last: int) -> list[dict[str, object]]:
    column = tables.audit.c.id
    query = tables.audit.select().where(column > last).order_by(column).limit(BATCH)
    names = tables.audit.c.keys()
    return [dict(zip(names, row, strict=True)) for row in office.ledger.query(query)]


def _remember(office: Office, name: str, row: object) -> None:
    with office.ledger.transaction() as connection:
        connection.execute(forwarded.delete().where(forwarded.c.server == name))
        connection.execute(forwarded.insert().values(server=name, row=row))


def _send(server: Syslog, data: bytes) -> None:
    """Send a batch on a connection of its own, and wait until the server has closed it."""
    with (
        socket.create_connection((server.host, server.port), server.timeout) as plain,
        _secured(server, plain) as line,
    ):
        line.sendall(data)
        if isinstance(line, ssl.SSLSocket):
            with suppress(ssl.SSLEOFError):  # it closed without a word of its own
                line.unwrap()
            return
        line.shutdown(socket.SHUT_WR)
        with suppress(TimeoutError):  # it keeps its end open: so some do
            line.recv(1)


def _secured(server: Syslog, plain: socket.socket) -> socket.socket:
    if not server.tls:
        return plain
    context = ssl.create_default_context(cafile=server.trusted_certificates)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context.wrap_socket(plain, server_hostname=server.host)
