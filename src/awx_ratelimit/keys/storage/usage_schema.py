"""The tables of usage and of warnings about quotas, and the metadata of all tables.

Times are integers, in milliseconds since the epoch.
"""

from typing import Any, Final

from sqlalchemy import BigInteger, Column, Integer, MetaData, Table, Text

METADATA: Final = MetaData()


def _usage_columns() -> list[Column[Any]]:
    """The columns that identify a row of the tables of usage, in the order of their primary keys."""
    return [
        Column("account_id", Text, primary_key=True),
        Column("period", Text, primary_key=True),
        Column("family_id", Text, primary_key=True),
        Column("begins_ms", BigInteger, primary_key=True),
    ]


#: What keys have used, by hour and by day (UTC). `family_id` is the subject that a key shares with its successors.
#: `peak` is the highest number of concurrent requests, and `last_at_ms` the time of the last request.
USAGE: Final = Table(
    "awx_usage",
    METADATA,
    *_usage_columns(),
    Column("allowed", BigInteger, nullable=False),
    Column("refused", BigInteger, nullable=False),
    Column("peak", BigInteger, nullable=False),
    Column("last_at_ms", BigInteger, nullable=False),
)

#: The cost of the allowed requests, by measure.
USAGE_COSTS: Final = Table(
    "awx_usage_costs",
    METADATA,
    *_usage_columns(),
    Column("measure", Text, primary_key=True),
    Column("amount", BigInteger, nullable=False),
)

#: The refused requests, by each limit that refused them.
USAGE_REFUSALS: Final = Table(
    "awx_usage_refusals",
    METADATA,
    *_usage_columns(),
    Column("limit_name", Text, primary_key=True),
    Column("amount", BigInteger, nullable=False),
)

#: The allowed requests that a shadow limit would have refused, by each such limit.
USAGE_SHADOWS: Final = Table(
    "awx_usage_shadows",
    METADATA,
    *_usage_columns(),
    Column("limit_name", Text, primary_key=True),
    Column("amount", BigInteger, nullable=False),
)

#: The number of the last batch that each process has written. A batch whose number is here is not written again.
USAGE_WRITERS: Final = Table(
    "awx_usage_writers",
    METADATA,
    Column("process", Text, primary_key=True),
    Column("sequence", BigInteger, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
)

#: Until when hours are ``sealed`` by an export, and ``removed`` because they are old.
USAGE_MARKS: Final = Table(
    "awx_usage_marks",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("until_ms", BigInteger, nullable=False),
)

#: Until when the owner of a quota needs no other warning, unless more of it or of a larger one is used.
WARNED_QUOTAS: Final = Table(
    "awx_warned_quotas",
    METADATA,
    Column("subject", Text, primary_key=True),
    Column("limit_name", Text, primary_key=True),
    Column("percent", Integer, nullable=False),
    Column("capacity", BigInteger, nullable=False),
    Column("until_ms", BigInteger, nullable=False),
)

#: Warnings that are not delivered. `next_at_ms` is when a process may take one, which then puts it off for a while.
QUOTA_WARNINGS: Final = Table(
    "awx_quota_warnings",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("channel", Text, primary_key=True),
    Column("body", Text, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_at_ms", BigInteger, nullable=False),
)
