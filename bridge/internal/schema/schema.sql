-- What durable channels need in the database. Executing it again changes
-- nothing; on an older schema it brings that up to date.
--
-- The PostgreSQL user that pgbridge runs as needs, unless it owns them:
--   ALTER ROLE pgbridge REPLICATION;
--   GRANT SELECT, INSERT, UPDATE ON pgbridge.position TO pgbridge;
-- Everybody may send, as everybody may NOTIFY. The tables have grants of their own.
GRANT USAGE ON SCHEMA pgbridge TO PUBLIC;

CREATE OR REPLACE FUNCTION pgbridge.durable_version() RETURNS integer
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT 11';
COMMENT ON FUNCTION pgbridge.durable_version() IS 'Version of what durable channels need';

-- pgbridge:limit
CREATE OR REPLACE FUNCTION pgbridge.payload_limit() RETURNS integer
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT 1040384';
COMMENT ON FUNCTION pgbridge.payload_limit() IS 'Bytes of payload and headers that fit one NATS message';

CREATE TABLE IF NOT EXISTS pgbridge.position (
    prefix         text PRIMARY KEY,
    stream_created text NOT NULL,
    last_sequence  bigint NOT NULL,
    id             text NOT NULL,
    committed_at   timestamptz NOT NULL,
    channels       text[] NOT NULL,
    owed           jsonb NOT NULL DEFAULT '{}',
    updated_at     timestamptz NOT NULL DEFAULT pg_catalog.now()
) WITH (fillfactor = 20);
ALTER TABLE pgbridge.position ADD COLUMN IF NOT EXISTS terms jsonb NOT NULL DEFAULT '{}';
COMMENT ON TABLE pgbridge.position IS 'How far the stream of durable events reaches, by prefix';
COMMENT ON COLUMN pgbridge.position.stream_created IS 'When the stream was made: another one has not what this one had';
COMMENT ON COLUMN pgbridge.position.channels IS 'The durable channels of the replica that wrote the row';
COMMENT ON COLUMN pgbridge.position.owed IS 'Channels for which a gap is still to be announced, and why';

COMMENT ON COLUMN pgbridge.position.terms IS 'How the events of each channel are sent, and from where to where in the log';

-- An empty publication: pgbridge reads messages, not tables. A slot that has
-- read it once needs it to stay: do not drop it.
DO $pgbridge$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_publication WHERE pubname OPERATOR(pg_catalog.=) 'pgbridge') THEN
        CREATE PUBLICATION pgbridge;
    END IF;
END
$pgbridge$;

-- Everything below names operators with their schema, so that it means the
-- same under any search_path of a caller, and no literal with a backslash depends on
-- standard_conforming_strings.

CREATE OR REPLACE FUNCTION pgbridge.refuse(channel text, payload_bytes bigint) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $pgbridge$
BEGIN
    IF channel IS NULL OR channel = '' THEN
        RAISE EXCEPTION 'a durable event needs a channel' USING ERRCODE = 'null_value_not_allowed';
    ELSIF octet_length(channel) > 63 THEN
        RAISE EXCEPTION 'the channel has % bytes, at most 63 are allowed', octet_length(channel) USING ERRCODE = 'name_too_long';
    ELSIF channel ~ E'[\\x01-\\x1f\\x7f-\\x9f]' THEN
        RAISE EXCEPTION 'the channel holds a control character' USING ERRCODE = 'invalid_name';
    ELSIF channel ~ E'[^\\x01-\\x7f]' AND getdatabaseencoding() <> 'UTF8' THEN
        RAISE EXCEPTION 'the channel holds a letter that is not ASCII, in a database whose encoding is %', getdatabaseencoding()
            USING ERRCODE = 'invalid_name', HINT = 'Use ASCII for the names of durable channels, or a database in UTF8.';
    ELSIF current_setting('wal_level') <> 'logical' THEN
        RAISE EXCEPTION 'a durable event needs wal_level = logical, it is %', current_setting('wal_level')
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Set wal_level in postgresql.conf and restart the server.';
    ELSIF payload_bytes > pgbridge.payload_limit() THEN
        RAISE EXCEPTION 'the event has % bytes with its headers, at most % fit one NATS message', payload_bytes, pgbridge.payload_limit()
            USING ERRCODE = 'program_limit_exceeded',
                HINT = 'Send a reference to what is large. Where NATS has a higher max_payload, run pgbridge migrate again.';
    END IF;
END
$pgbridge$;

CREATE OR REPLACE FUNCTION pgbridge.refuse_headers(headers jsonb) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $pgbridge$
DECLARE
    name text;
    value jsonb;
BEGIN
    IF jsonb_typeof(headers) <> 'object' THEN
        RAISE EXCEPTION 'the headers are not a JSON object' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    FOR name, value IN SELECT * FROM jsonb_each(headers) LOOP
        IF name !~ '^[!#$%&''*+.^_`|~0-9A-Za-z-]+$' THEN
            RAISE EXCEPTION 'the name of a header is empty or holds what no header may' USING ERRCODE = 'invalid_parameter_value';
        -- In some languages an I becomes another letter than i.
        ELSIF lower(name COLLATE "C") LIKE 'nats-%' OR lower(name COLLATE "C") LIKE 'pgbridge-%' OR lower(name COLLATE "C") IN ('status', 'description') THEN
            RAISE EXCEPTION 'the header % belongs to NATS or pgbridge', name
                USING ERRCODE = 'reserved_name', HINT = 'Names that begin with Nats- or Pgbridge-, Status and Description are reserved.';
        ELSIF jsonb_typeof(value) <> 'string' THEN
            RAISE EXCEPTION 'the header % is not a string', name USING ERRCODE = 'invalid_parameter_value';
        ELSIF (value #>> '{}') ~ E'[\\x01-\\x08\\x0a-\\x1f\\x7f]' THEN
            RAISE EXCEPTION 'the header % holds a line break or another control character', name USING ERRCODE = 'invalid_parameter_value';
        END IF;
    END LOOP;
END
$pgbridge$;

CREATE OR REPLACE FUNCTION pgbridge.notify(channel text, payload bytea, headers jsonb DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql AS $pgbridge$
DECLARE
    head pg_catalog.bytea;
    head_bytes integer := 0;
    payload_bytes integer := coalesce(pg_catalog.octet_length(payload), 0);
    trace pg_catalog.text := pg_catalog.current_setting('pgbridge.traceparent', true);
    state pg_catalog.text;
BEGIN
    IF headers IS NOT NULL THEN
        PERFORM pgbridge.refuse_headers(headers);
        head := pg_catalog.convert_to(headers::pg_catalog.text, 'UTF8');
        head_bytes := pg_catalog.octet_length(head);
    END IF;
    -- An event belongs to the trace that its transaction does, unless it says another. It
    -- is no reason to refuse the event.
    IF trace OPERATOR(pg_catalog.~) '^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$'
        AND (headers OPERATOR(pg_catalog.?) 'traceparent') IS NOT TRUE
        AND payload_bytes OPERATOR(pg_catalog.+) head_bytes OPERATOR(pg_catalog.+) 80 OPERATOR(pg_catalog.<=) pgbridge.payload_limit()
    THEN
        headers := coalesce(headers, '{}'::pg_catalog.jsonb) OPERATOR(pg_catalog.||) pg_catalog.jsonb_build_object('traceparent', trace);
        -- What tracing systems have left for each other goes along as long as there is
        -- room: at most 512 characters, some of them twice as long in JSON.
        state := pg_catalog.current_setting('pgbridge.tracestate', true);
        IF state OPERATOR(pg_catalog.~) '^[ -~]+$'
            AND pg_catalog.octet_length(state) OPERATOR(pg_catalog.<=) 512
            AND NOT headers OPERATOR(pg_catalog.?) 'tracestate'
            AND payload_bytes OPERATOR(pg_catalog.+) head_bytes OPERATOR(pg_catalog.+) 1200 OPERATOR(pg_catalog.<=) pgbridge.payload_limit()
        THEN
            headers := headers OPERATOR(pg_catalog.||) pg_catalog.jsonb_build_object('tracestate', state);
        END IF;
        head := pg_catalog.convert_to(headers::pg_catalog.text, 'UTF8');
        head_bytes := pg_catalog.octet_length(head);
    END IF;
    -- A bound inside the expression would make it three times as slow.
    IF (channel OPERATOR(pg_catalog.~) '^[A-Za-z0-9_.:/-]+$') IS NOT TRUE OR pg_catalog.octet_length(channel) OPERATOR(pg_catalog.>) 63
        OR payload_bytes OPERATOR(pg_catalog.+) head_bytes OPERATOR(pg_catalog.>) pgbridge.payload_limit()
        OR pg_catalog.current_setting('wal_level') OPERATOR(pg_catalog.<>) 'logical'
    THEN
        PERFORM pgbridge.refuse(channel, payload_bytes::pg_catalog.int8 OPERATOR(pg_catalog.+) head_bytes);
    END IF;
    IF headers IS NULL THEN
        PERFORM pg_catalog.pg_logical_emit_message(true, 'pgbridge.' OPERATOR(pg_catalog.||) channel, coalesce(payload, ''::pg_catalog.bytea));
    ELSE
        PERFORM pg_catalog.pg_logical_emit_message(true, 'pgbridge:' OPERATOR(pg_catalog.||) channel,
            pg_catalog.int4send(head_bytes) OPERATOR(pg_catalog.||) head OPERATOR(pg_catalog.||) coalesce(payload, ''::pg_catalog.bytea));
    END IF;
END
$pgbridge$;
COMMENT ON FUNCTION pgbridge.notify(text, bytea, jsonb) IS 'Sends an event on a durable channel, as part of the transaction';

-- Text as UTF-8 or, where that lacks something of it, with the bytes it has in the database:
-- nobody's write fails for what cannot be told.
CREATE OR REPLACE FUNCTION pgbridge.bytes_of(value text) RETURNS bytea
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $pgbridge$
BEGIN
    RETURN convert_to(value, 'UTF8');
EXCEPTION WHEN character_not_in_repertoire OR untranslatable_character THEN
    RETURN convert_to(value, getdatabaseencoding());
END
$pgbridge$;

-- One expression in SQL, which PostgreSQL puts in the place of the call: nothing is
-- called but its own functions. Where it cannot, because the payload is volatile or
-- long to make and would be made twice, it calls this as a function.
CREATE OR REPLACE FUNCTION pgbridge.notify(channel text, payload text, headers jsonb DEFAULT NULL) RETURNS void
    LANGUAGE sql AS $pgbridge$
    SELECT CASE
        WHEN headers IS NOT NULL OR pg_catalog.current_setting('pgbridge.traceparent', true) OPERATOR(pg_catalog.<>) ''
            OR (channel OPERATOR(pg_catalog.~) '^[A-Za-z0-9_.:/-]+$') IS NOT TRUE OR pg_catalog.octet_length(channel) OPERATOR(pg_catalog.>) 63
            OR pg_catalog.octet_length(payload) OPERATOR(pg_catalog.>) pgbridge.payload_limit()
            OR pg_catalog.current_setting('wal_level') OPERATOR(pg_catalog.<>) 'logical'
            OR pg_catalog.getdatabaseencoding() OPERATOR(pg_catalog.<>) 'UTF8'
        THEN pgbridge.notify(channel, CASE WHEN pg_catalog.getdatabaseencoding() OPERATOR(pg_catalog.=) 'UTF8'
            THEN pg_catalog.convert_to(payload, 'UTF8') ELSE pgbridge.bytes_of(payload) END, headers)
        WHEN pg_catalog.pg_logical_emit_message(true, 'pgbridge.' OPERATOR(pg_catalog.||) channel, coalesce(payload, '')) IS NOT NULL
        THEN ''::pg_catalog.void
    END
$pgbridge$;
COMMENT ON FUNCTION pgbridge.notify(text, text, jsonb) IS 'Sends an event on a durable channel, as part of the transaction';

-- A row, or some of its columns, as JSON, whatever the writer's session is set to: there
-- a number can be rounded, and a range of dates read in two ways. It never becomes jsonb,
-- which cannot hold all that json can.
CREATE OR REPLACE FUNCTION pgbridge.row_json(row_value anyelement, columns name[]) RETURNS json
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
    SET datestyle = 'ISO' SET intervalstyle = 'postgres' SET bytea_output = 'hex' SET extra_float_digits = 1 AS $pgbridge$
DECLARE
    result json;
BEGIN
    IF columns IS NULL THEN
        RETURN to_json(row_value);
    END IF;
    EXECUTE (SELECT 'SELECT to_json(r) FROM (SELECT ' || string_agg(format('($1).%I', name), ', ') || ') r' FROM unnest(columns) name)
        INTO result USING row_value;
    RETURN result;
END
$pgbridge$;

CREATE OR REPLACE FUNCTION pgbridge.keys_of(relation oid) RETURNS name[]
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $pgbridge$
    SELECT array_agg(a.attname ORDER BY k.place)
    FROM pg_index i
    CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY k(attnum, place)
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
    WHERE i.indrelid = relation AND i.indisprimary AND k.place <= i.indnkeyatts -- what it includes is behind them
$pgbridge$;

-- The columns that are stored: PostgreSQL makes virtual ones when they are read, and
-- a trigger has NULL in their place.
CREATE OR REPLACE FUNCTION pgbridge.stored_of(relation oid) RETURNS name[]
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $pgbridge$
    SELECT array_agg(attname ORDER BY attnum) FROM pg_attribute
    WHERE attrelid = relation AND attnum > 0 AND NOT attisdropped AND attgenerated <> 'v'
$pgbridge$;

CREATE OR REPLACE FUNCTION pgbridge.watched() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $pgbridge$
DECLARE
    event json;
    new_row json;
    old_row json;
    op text := lower(TG_OP COLLATE "C"); -- in some languages an I becomes another letter than i
    utf8 boolean := getdatabaseencoding() = 'UTF8';
    columns name[] := CASE WHEN TG_NARGS > 3 THEN pgbridge.stored_of(TG_RELID) END;
    -- Most sessions are set so, and row_json costs more than all the rest.
    usual boolean := columns IS NULL AND current_setting('datestyle') LIKE 'ISO%' AND current_setting('intervalstyle') = 'postgres'
        AND current_setting('bytea_output') = 'hex' AND current_setting('extra_float_digits')::int4 > 0;
BEGIN
    IF TG_OP = 'INSERT' OR TG_OP = 'UPDATE' THEN
        new_row := CASE WHEN usual THEN to_json(NEW) ELSE pgbridge.row_json(NEW, columns) END;
    END IF;
    IF TG_OP = 'UPDATE' OR TG_OP = 'DELETE' THEN
        old_row := CASE WHEN usual THEN to_json(OLD) ELSE pgbridge.row_json(OLD, columns) END;
    END IF;
    event := json_build_object('op', op, 'schema', TG_ARGV[1], 'table', TG_ARGV[2], 'new', new_row, 'old', old_row);
    IF (CASE WHEN utf8 THEN octet_length(event::text) ELSE octet_length(pgbridge.bytes_of(event::text)) END) > pgbridge.payload_limit() THEN
        -- The write goes on: its event carries the keys alone.
        columns := pgbridge.keys_of(TG_RELID);
        IF new_row IS NOT NULL THEN
            new_row := CASE WHEN columns IS NOT NULL THEN pgbridge.row_json(NEW, columns) END;
        END IF;
        IF old_row IS NOT NULL THEN
            old_row := CASE WHEN columns IS NOT NULL THEN pgbridge.row_json(OLD, columns) END;
        END IF;
        event := json_build_object('op', op, 'schema', TG_ARGV[1], 'table', TG_ARGV[2], 'new', new_row, 'old', old_row, 'truncated', true);
        IF (CASE WHEN utf8 THEN octet_length(event::text) ELSE octet_length(pgbridge.bytes_of(event::text)) END) > pgbridge.payload_limit() THEN
            event := json_build_object('op', op, 'schema', TG_ARGV[1], 'table', TG_ARGV[2], 'new', NULL, 'old', NULL, 'truncated', true);
        END IF;
    END IF;
    PERFORM pgbridge.notify(TG_ARGV[0], event::text);
    RETURN NULL;
END
$pgbridge$;
DROP FUNCTION IF EXISTS pgbridge.keys_of(oid, jsonb);

CREATE OR REPLACE FUNCTION pgbridge.watch(relation regclass, channel text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $pgbridge$
DECLARE
    kind "char";
    schema_name text;
    table_name text;
    strange record;
    only_stored text;
    -- Triggers fire in the order of their names, those of foreign keys with them. What comes
    -- of another one is told of behind what has caused it.
    trigger_name text := '!pgbridge_watch_' || left(md5(channel), 16);
BEGIN
    PERFORM pgbridge.refuse(channel, 0);
    SELECT c.relkind, n.nspname, c.relname INTO kind, schema_name, table_name
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = relation;
    IF kind IS NULL OR kind NOT IN ('r', 'p') THEN
        RAISE EXCEPTION '% is not a table', relation USING ERRCODE = 'wrong_object_type';
    ELSIF kind = 'r' AND EXISTS (SELECT FROM pg_inherits WHERE inhparent = relation) THEN
        RAISE EXCEPTION '% has child tables, whose rows its triggers would miss', relation
            USING ERRCODE = 'wrong_object_type', HINT = 'Watch the children, or make it a partitioned table.';
    END IF;
    -- A type's owner can make a cast to json, whose function to_json calls, with the
    -- rights of whoever writes to the table.
    WITH RECURSIVE used(type) AS (
        SELECT atttypid FROM pg_attribute WHERE attrelid = relation AND attnum > 0 AND NOT attisdropped
        UNION
        SELECT part.type FROM used JOIN pg_type t ON t.oid = used.type CROSS JOIN LATERAL (
            SELECT t.typelem UNION ALL SELECT t.typbasetype
            UNION ALL SELECT a.atttypid FROM pg_attribute a WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
        ) part(type)
    )
    SELECT t.oid::regtype AS type, pg_get_userbyid(t.typowner) AS owner INTO strange
    FROM used JOIN pg_type t ON t.oid = used.type JOIN pg_roles theirs ON theirs.oid = t.typowner,
        pg_class c JOIN pg_roles ours ON ours.oid = c.relowner
    WHERE c.oid = relation AND t.typowner <> c.relowner AND NOT theirs.rolsuper
        AND (ours.rolsuper OR NOT pg_has_role(c.relowner, t.typowner, 'MEMBER'))
        AND t.typowner <> (SELECT datdba FROM pg_database WHERE datname = current_database())
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'the type % belongs to %, whose functions could be called by whoever writes to %', strange.type, strange.owner, relation
            USING ERRCODE = 'insufficient_privilege', HINT = 'Give the type to the owner of the table, or of the database.';
    END IF;
    SELECT CASE WHEN count(*) > 0 THEN ', ''stored''' ELSE '' END INTO only_stored
    FROM pg_attribute WHERE attrelid = relation AND attgenerated = 'v' AND NOT attisdropped;
    PERFORM pgbridge.unwatch(relation, channel);
    EXECUTE format('CREATE TRIGGER %I AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION pgbridge.watched(%L, %L, %L%s)',
        trigger_name || '_row', relation, channel, schema_name, table_name, only_stored);
    EXECUTE format('CREATE TRIGGER %I AFTER TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION pgbridge.watched(%L, %L, %L)',
        trigger_name || '_truncate', relation, channel, schema_name, table_name);
END
$pgbridge$;
COMMENT ON FUNCTION pgbridge.watch(regclass, text) IS 'Has every change of a table''s rows sent on a durable channel';

CREATE OR REPLACE FUNCTION pgbridge.unwatch(relation regclass, channel text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $pgbridge$
DECLARE
    trigger_name text;
    name_ending text := 'pgbridge_watch_' || left(md5(channel), 16);
BEGIN
    FOR trigger_name IN SELECT tgname FROM pg_trigger -- until version 7 the names began otherwise
        WHERE tgrelid = relation AND tgname IN ('!' || name_ending || '_row', '!' || name_ending || '_truncate', name_ending || '_row', name_ending || '_truncate')
    LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', trigger_name, relation);
    END LOOP;
END
$pgbridge$;
COMMENT ON FUNCTION pgbridge.unwatch(regclass, text) IS 'Ends what watch began';

-- Where functions are nobody's but their owner's by default, no other role could write to a
-- table that is watched. What the owner has given to some role is left at that.
DO $pgbridge$
DECLARE
    made regprocedure;
BEGIN
    FOR made IN
        SELECT p.oid FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE n.nspname = 'pgbridge' AND p.proname IN ('durable_version', 'payload_limit', 'refuse', 'refuse_headers', 'notify',
                'bytes_of', 'row_json', 'keys_of', 'stored_of', 'watched', 'watch', 'unwatch')
            AND p.proacl IS NOT NULL AND NOT EXISTS (SELECT FROM aclexplode(p.proacl) a WHERE a.grantee <> p.proowner)
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO PUBLIC', made);
    END LOOP;
END
$pgbridge$;
