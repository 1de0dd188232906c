"""The statements of `flows.engine.ledger`."""

from __future__ import annotations

from sqlalchemy import text

# Arrays travel as JSON: psycopg writes a list of texts element by element in Python, which costs
# more than everything else that a batch does here; orjson writes it at once.
LOOK_UP = text(
    "SELECT source_key, external_key, encode(content_hash, 'hex'), state, action, run_id, "
    "revision, amount FROM ledger WHERE connection = :connection AND entity = :entity "
    "AND source_key = ANY(ARRAY(SELECT json_array_elements_text(CAST(:sources AS json))))"
)
HOLDERS = text(
    "SELECT external_key, source_key, state FROM ledger "
    "WHERE connection = :connection AND entity = :entity "
    "AND external_key = ANY(ARRAY(SELECT json_array_elements_text(CAST(:keys AS json)))) "
    # An update that was refused leaves the record at 奉行クラウド as it was: it keeps its code.
    "AND (state <> 'rejected' OR action = 'updated')"
)
FENCE = text(
    "SELECT 1 FROM connection WHERE name = :connection AND lease_owner = :run AND fence = :fence "
    "AND lease_expires > clock_timestamp() FOR UPDATE"
)
INTENT = text(
    "INSERT INTO ledger (connection, entity, source_key, external_key, content_hash, state, "
    "action, batch_id, run_id, updated_at) "
    "SELECT :connection, :entity, s, k, decode(h, 'hex'), 'pending', a, :batch, :run, now() "
    "FROM ROWS FROM (json_array_elements_text(CAST(:sources AS json)), "
    "json_array_elements_text(CAST(:keys AS json)), "
    "json_array_elements_text(CAST(:hashes AS json)), "
    "json_array_elements_text(CAST(:actions AS json))) AS t(s, k, h, a) "
    "ON CONFLICT (connection, entity, source_key) DO UPDATE SET "
    "external_key = excluded.external_key, content_hash = excluded.content_hash, "
    "state = 'pending', action = excluded.action, batch_id = excluded.batch_id, "
    "run_id = excluded.run_id, error = NULL, updated_at = now()"
)
POSTED = text(
    "UPDATE ledger SET state = 'posted', updated_at = now() "
    "WHERE connection = :connection AND entity = :entity "
    "AND source_key = ANY(ARRAY(SELECT json_array_elements_text(CAST(:sources AS json)))) "
    "AND batch_id = :batch AND state = 'pending'"
)
MARK_REJECTED = text(
    "UPDATE ledger SET state = :state, error = t.e, updated_at = now() "
    "FROM unnest(CAST(:sources AS text[]), CAST(:errors AS text[])) AS t(s, e) "
    "WHERE connection = :connection AND entity = :entity AND source_key = t.s "
    "AND batch_id = :batch AND state = 'pending'"
)
EVERYTHING = (
    "SELECT source_key, external_key, encode(content_hash, 'hex'), state, action, run_id, "
    "revision, amount, document_date, accepted_key, "
    "extract(epoch FROM clock_timestamp() - updated_at)::float8, error, "
    "encode(acknowledged_hash, 'hex') "
    "FROM ledger WHERE connection = :connection AND entity = :entity "
)
DOCUMENTS = text(
    EVERYTHING
    + "AND source_key = ANY(ARRAY(SELECT json_array_elements_text(CAST(:sources AS json))))"
)
IN_STATE = text(
    EVERYTHING + "AND state = :state AND source_key > :after ORDER BY source_key LIMIT :limit"
)
OBSERVE = text(
    "UPDATE ledger SET observed_hash = decode(t.h, 'hex') "
    "FROM unnest(CAST(:sources AS text[]), CAST(:hashes AS text[])) AS t(s, h) "
    "WHERE connection = :connection AND entity = :entity AND source_key = t.s"
)
ACKNOWLEDGE = text(
    "UPDATE ledger SET acknowledged_hash = observed_hash WHERE connection = :connection "
    "AND entity = :entity AND state = 'posted' AND observed_hash IS NOT NULL "
    "AND source_key = ANY(:sources) RETURNING source_key"
)
DECIDE = text(
    "UPDATE ledger SET state = :state, error = NULL, updated_at = now() "
    "WHERE connection = :connection AND entity = :entity AND state = 'unclear' "
    "AND source_key = ANY(:sources) RETURNING source_key"
)
OWN = text(
    "UPDATE ledger SET run_id = :run WHERE connection = :connection AND entity = :entity "
    "AND state IN ('pending', 'unclear') AND source_key = ANY(:sources)"
)
SETTLE = text(
    "UPDATE ledger SET state = :state, updated_at = now(), error = NULL "
    "WHERE connection = :connection AND entity = :entity "
    "AND state IN ('pending', 'unclear') AND source_key = ANY(:sources)"
)
UNCLEAR = text(
    "UPDATE ledger SET state = 'unclear', error = t.e, updated_at = now() "
    "FROM unnest(CAST(:sources AS text[]), CAST(:errors AS text[])) AS t(s, e) "
    "WHERE connection = :connection AND entity = :entity AND source_key = t.s"
)
INTENT_DOCUMENT = text(
    "INSERT INTO ledger (connection, entity, source_key, external_key, content_hash, state, "
    "action, batch_id, run_id, updated_at, revision, amount, document_date) "
    "SELECT :connection, :entity, s, k, decode(h, 'hex'), 'pending', a, :batch, :run, now(), "
    "CAST(r AS integer), CAST(m AS bigint), CAST(d AS date) "
    "FROM ROWS FROM (json_array_elements_text(CAST(:sources AS json)), "
    "json_array_elements_text(CAST(:keys AS json)), "
    "json_array_elements_text(CAST(:hashes AS json)), "
    "json_array_elements_text(CAST(:actions AS json)), "
    "json_array_elements_text(CAST(:revisions AS json)), "
    "json_array_elements_text(CAST(:amounts AS json)), "
    "json_array_elements_text(CAST(:days AS json))) AS t(s, k, h, a, r, m, d) "
    "ON CONFLICT (connection, entity, source_key) DO UPDATE SET "
    "external_key = excluded.external_key, content_hash = excluded.content_hash, "
    "state = 'pending', action = excluded.action, batch_id = excluded.batch_id, "
    "run_id = excluded.run_id, error = NULL, updated_at = now(), revision = excluded.revision, "
    "amount = excluded.amount, document_date = excluded.document_date, accepted_key = NULL "
    # What a person has to look at first, and what is there already, is never sent by itself.
    "WHERE ledger.state NOT IN ('unclear', 'posted', 'pending')"
)
ADOPT = text(
    "INSERT INTO ledger (connection, entity, source_key, external_key, content_hash, state, "
    "action, batch_id, run_id, updated_at, revision, amount, document_date) "
    "SELECT :connection, :entity, s, k, decode(h, 'hex'), 'posted', 'found', :batch, :run, now(), "
    "CAST(r AS integer), CAST(m AS bigint), CAST(d AS date) "
    "FROM ROWS FROM (json_array_elements_text(CAST(:sources AS json)), "
    "json_array_elements_text(CAST(:keys AS json)), "
    "json_array_elements_text(CAST(:hashes AS json)), "
    "json_array_elements_text(CAST(:revisions AS json)), "
    "json_array_elements_text(CAST(:amounts AS json)), "
    "json_array_elements_text(CAST(:days AS json))) AS t(s, k, h, r, m, d) "
    "ON CONFLICT (connection, entity, source_key) DO UPDATE SET state = 'posted', "
    "external_key = excluded.external_key, content_hash = excluded.content_hash, "
    "amount = excluded.amount, document_date = excluded.document_date, error = NULL, "
    "action = CASE WHEN ledger.state = 'pending' THEN ledger.action ELSE 'found' END, "
    "revision = excluded.revision, run_id = excluded.run_id, updated_at = now()"
)
ACCEPTED = text(
    "UPDATE ledger SET accepted_key = :accepted WHERE connection = :connection "
    "AND entity = :entity AND batch_id = :batch AND state = 'pending' "
    "AND source_key = ANY(:sources)"
)
TOUCH = text(
    "UPDATE ledger SET updated_at = clock_timestamp(), accepted_key = NULL "
    "WHERE connection = :connection AND entity = :entity AND state = 'pending' "
    "AND source_key = ANY(:sources)"
)
REVERSED = text(
    "UPDATE ledger SET state = 'reversed', run_id = :run, updated_at = now() "
    "FROM unnest(CAST(:sources AS text[]), CAST(:revisions AS integer[])) AS t(s, r) "
    "WHERE connection = :connection AND entity = :entity AND source_key = t.s "
    "AND revision = t.r AND state = 'posted'"
)
UNSENT = text(
    "SELECT source_key FROM ledger WHERE connection = :connection AND entity = :entity "
    "AND state = 'unsent'"
)
SUMS = text(
    "SELECT state, coalesce(sum(amount), 0), count(*) FROM ledger "
    "WHERE connection = :connection AND entity = :entity AND run_id = :run GROUP BY state"
)
TOTALS = text(
    "SELECT state, action, count(*) FROM ledger WHERE connection = :connection "
    "AND entity = :entity AND run_id = :run GROUP BY state, action"
)
ANALYZE = text("ANALYZE ledger")
RELEASE = text(
    "DELETE FROM ledger WHERE connection = :connection AND entity = :entity "
    "AND source_key = ANY(:sources)"
)
