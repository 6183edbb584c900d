"""The one class that the other parts hold: every room of the ledger behind one URL."""

from dicom_node.ledger import (
    callers,
    chain,
    commitment,
    comparisons,
    delivery,
    intake,
    invariants,
    queue,
    redirection,
    registry,
    retention,
    work,
)
from dicom_node.ledger.database import Database, reads, writes
from dicom_node.ledger.schema import blob_of


class Ledger(Database):
    """What each room offers, each a transaction of its own (`writes`) or a question (`reads`)."""

    blob_of = staticmethod(blob_of)

    receive = writes(intake.receive)
    release = writes(intake.release)
    knows = reads(intake.knows)
    held = reads(intake.held)
    segments = reads(intake.segments)

    lease = writes(work.lease, relaxed=True)
    analysed = writes(work.analysed, relaxed=True)
    reported = writes(work.reported)
    archived = writes(work.archived)
    quarantine = writes(work.quarantine)
    postpone = writes(work.postpone)
    leases_of = reads(work.leases_of)
    forgive = writes(work.forgive)
    comparison = reads(comparisons.comparison)

    due = reads(delivery.due)
    delivered = writes(delivery.delivered, relaxed=True)
    unconfirmed = reads(commitment.unconfirmed)
    asked = writes(commitment.asked)
    answered = writes(commitment.answered)
    confirmed = writes(commitment.confirmed)
    resend = writes(commitment.resend)

    promise = writes(callers.promise)
    promise_due = reads(callers.promise_due)
    promise_kept = writes(callers.promise_kept)
    promise_later = writes(callers.promise_later)

    retry = writes(queue.retry)
    rows = reads(queue.rows)
    row = reads(queue.row)
    counts = reads(queue.counts)
    pending = reads(queue.pending)

    stranded = reads(redirection.stranded)
    stranded_roles = reads(redirection.stranded_roles)
    redirect = writes(redirection.redirect)
    drop = writes(redirection.drop)
    dropped = reads(redirection.dropped)

    purgeable = reads(retention.purgeable)
    purge = writes(retention.purge)
    purged = reads(retention.purged)

    add_model = writes(registry.add_model)
    slots = reads(registry.digests)
    in_slots = reads(registry.in_slots)
    promote = writes(registry.promote)

    record = writes(chain.append)
    refusals = reads(chain.refusals)
    trail = reads(chain.trail)
    end = reads(chain.end)
    broken_chain = reads(chain.broken_chain)
    violations = reads(invariants.violations)
