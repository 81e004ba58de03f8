-- What pgbridge keeps in the database: message ids with their replies.
-- The PostgreSQL user that pgbridge runs as needs, unless it owns them:
--   GRANT USAGE ON SCHEMA pgbridge TO pgbridge;
--   GRANT SELECT, INSERT, UPDATE, DELETE ON pgbridge.message_id TO pgbridge;
CREATE TABLE IF NOT EXISTS pgbridge.message_id (
    prefix     text NOT NULL,
    caller     text NOT NULL,
    kind       text NOT NULL,
    script     text NOT NULL,
    id         text NOT NULL,
    request    text NOT NULL,
    reply      text,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    PRIMARY KEY (prefix, caller, kind, script, id)
);
COMMENT ON TABLE pgbridge.message_id IS 'Requests that were committed, by message id, and their replies';
COMMENT ON COLUMN pgbridge.message_id.request IS 'SHA-256 of the request body, hexadecimal';

CREATE INDEX IF NOT EXISTS message_id_created_at ON pgbridge.message_id (created_at);
