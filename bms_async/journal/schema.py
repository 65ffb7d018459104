"""The tables, their version, and how those of an earlier version become those of this one.

Both stores make the tables by these statements. Each change of them gets a new version, and a step in `MIGRATIONS` that
makes it in tables of the version before; a step is never changed once it was released.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

SCHEMA = 1
"""The version of the tables."""

TABLES: Sequence[str] = (
    """
    CREATE TABLE bms_async_runs (
        id text NOT NULL PRIMARY KEY,
        place text NOT NULL,
        run_key text NOT NULL,
        action text NOT NULL,
        options bytea NOT NULL,
        digest text NOT NULL,
        wave bigint,
        abort_above double precision,
        abort_sample bigint NOT NULL,
        status text NOT NULL,
        aborted text,
        servers bigint NOT NULL,
        open_batches bigint NOT NULL,
        unsent bigint NOT NULL,
        next_batch bigint NOT NULL,
        in_flight bigint NOT NULL,
        submitted bigint NOT NULL,
        accepted bigint NOT NULL,
        extra_calls bigint NOT NULL,
        succeeded bigint NOT NULL,
        unchanged bigint NOT NULL,
        failed bigint NOT NULL,
        unknown_count bigint NOT NULL,
        skipped bigint NOT NULL,
        number bigint NOT NULL,
        served double precision NOT NULL,
        standing bytea,
        created double precision NOT NULL,
        ended double precision,
        UNIQUE (place, run_key)
    )
    """,
    """
    CREATE INDEX bms_async_runs_unsent ON bms_async_runs (place, status, action, served)
    WHERE ended IS NULL AND unsent > 0
    """,
    """
    CREATE TABLE bms_async_batches (
        run text NOT NULL,
        number bigint NOT NULL,
        state text NOT NULL,
        ids bytea NOT NULL,
        servers bigint NOT NULL,
        details bytea NOT NULL,
        rank bigint NOT NULL,
        due double precision NOT NULL,
        is_counted bigint NOT NULL,
        owner text,
        fence bigint NOT NULL,
        lease double precision NOT NULL,
        job text,
        sequence bigint NOT NULL,
        root bigint NOT NULL,
        parts bigint NOT NULL,
        unready bigint NOT NULL DEFAULT 0,
        PRIMARY KEY (run, number)
    )
    """,
    """
    CREATE INDEX bms_async_batches_waiting ON bms_async_batches (run, is_counted DESC, rank, due, number)
    WHERE state = 'waiting' AND owner IS NULL
    """,
    """
    CREATE INDEX bms_async_batches_owned ON bms_async_batches (owner) WHERE owner IS NOT NULL
    """,
    """
    CREATE INDEX bms_async_batches_planning ON bms_async_batches (run) WHERE state = 'planning'
    """,
    """
    CREATE TABLE bms_async_plans (
        run text NOT NULL,
        number bigint NOT NULL,
        ids bytea NOT NULL,
        details bytea NOT NULL,
        PRIMARY KEY (run, number)
    )
    """,
    """
    CREATE TABLE bms_async_outcomes (
        run text NOT NULL,
        number bigint NOT NULL,
        batch bigint NOT NULL,
        servers bigint NOT NULL,
        body bytea NOT NULL,
        PRIMARY KEY (run, number)
    )
    """,
    """
    CREATE INDEX bms_async_outcomes_of_batch ON bms_async_outcomes (run, batch)
    """,
    """
    CREATE TABLE bms_async_jobs (
        place text NOT NULL,
        job text NOT NULL,
        action text,
        servers bytea NOT NULL,
        owner text,
        fence bigint NOT NULL,
        lease double precision NOT NULL,
        sequence bigint NOT NULL,
        followed bigint NOT NULL,
        created double precision NOT NULL,
        ended double precision,
        PRIMARY KEY (place, job)
    )
    """,
    """
    CREATE INDEX bms_async_jobs_open ON bms_async_jobs (place, lease) WHERE ended IS NULL
    """,
    """
    CREATE INDEX bms_async_jobs_owned ON bms_async_jobs (owner) WHERE owner IS NOT NULL
    """,
    """
    CREATE TABLE bms_async_places (
        place text NOT NULL PRIMARY KEY,
        number bigint NOT NULL,
        trimmed bigint NOT NULL,
        wanted double precision NOT NULL
    )
    """,
    """
    CREATE TABLE bms_async_events (
        place text NOT NULL,
        number bigint NOT NULL,
        job text NOT NULL,
        events bigint NOT NULL,
        created double precision NOT NULL,
        body bytea NOT NULL,
        PRIMARY KEY (place, number)
    )
    """,
    """
    CREATE INDEX bms_async_events_of_job ON bms_async_events (place, job, number)
    """,
    """
    CREATE TABLE bms_async_leaders (
        name text NOT NULL PRIMARY KEY,
        owner text,
        fence bigint NOT NULL,
        lease double precision NOT NULL
    )
    """,
    """
    CREATE TABLE bms_async_reconcilers (
        place text NOT NULL,
        name text NOT NULL,
        number bigint NOT NULL,
        trimmed bigint NOT NULL,
        PRIMARY KEY (place, name)
    )
    """,
    """
    CREATE TABLE bms_async_desired (
        place text NOT NULL,
        reconciler text NOT NULL,
        server text NOT NULL,
        status text,
        attempts bigint NOT NULL,
        retry_at double precision,
        retry_reason text,
        number bigint NOT NULL,
        changed double precision NOT NULL,
        PRIMARY KEY (place, reconciler, server)
    )
    """,
    """
    CREATE INDEX bms_async_desired_in_order ON bms_async_desired (place, reconciler, number)
    """,
    """
    CREATE INDEX bms_async_desired_forgotten ON bms_async_desired (place, reconciler, number) WHERE status IS NULL
    """,
)

POSTGRES_ONLY: Sequence[str] = ("ALTER TABLE bms_async_batches SET (fillfactor = 45)",)
"""What PostgreSQL needs beside the tables. A page has room for a second version of each of its rows, so that a lease is
renewed where the row is; else the table grows by all rows in flight every few seconds, until it is vacuumed."""

MIGRATIONS: Mapping[int, Sequence[str]] = {}
"""The statements that make tables of a version into those of the next, by the version that they begin with."""
