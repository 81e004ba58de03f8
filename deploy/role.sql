-- The PostgreSQL role that pgbridge logs in as. Run it as the database's owner
-- or a superuser, with the database's name for app:
--
--     psql -d app -f deploy/role.sql

CREATE ROLE pgbridge LOGIN PASSWORD 'change me';
GRANT CONNECT ON DATABASE app TO pgbridge;

-- What a request runs ends when pgbridge has given it up, also where a function catches
-- the cancelling. Not every system can (Linux can): leave the line out where it is refused.
ALTER ROLE pgbridge SET client_connection_check_interval = '5s';

-- Events and notifications. Everybody has this one, unless somebody revoked it:
GRANT EXECUTE ON FUNCTION pg_catalog.pg_notify(text, text) TO pgbridge;

-- Message ids and jobs, once their table is there: before this file, run
--
--     pgbridge migrate --print | psql -d app
DO $$
BEGIN
	IF pg_catalog.to_regclass('pgbridge.message_id') IS NULL THEN
		RAISE NOTICE 'no table pgbridge.message_id, so no privileges on it: run pgbridge migrate for message ids and jobs';
		RETURN;
	END IF;
	GRANT USAGE ON SCHEMA pgbridge TO pgbridge;
	GRANT SELECT, INSERT, UPDATE, DELETE ON pgbridge.message_id TO pgbridge;
END $$;

-- Durable channels, once what they need is there, by the same command:
--
--     ALTER ROLE pgbridge REPLICATION;
DO $$
BEGIN
	IF pg_catalog.to_regclass('pgbridge.position') IS NULL THEN
		RAISE NOTICE 'no table pgbridge.position, so no privileges on it: run pgbridge migrate for durable channels';
		RETURN;
	END IF;
	GRANT SELECT, INSERT, UPDATE ON pgbridge.position TO pgbridge;
END $$;

-- Scripts do what this role may do, so it needs what they need, and no more:
--
--     GRANT SELECT, INSERT, UPDATE ON account, transfer TO pgbridge;
--     GRANT SELECT, INSERT, UPDATE ON orders TO pgbridge;
--
-- A script with the setting "role: teller" runs as that role:
--
--     GRANT teller TO pgbridge;                                      -- PostgreSQL 14 and 15
--     GRANT teller TO pgbridge WITH INHERIT FALSE, SET TRUE;         -- 16 and newer
--
-- Requests with SQL of their own belong to another user (sql.url):
--
--     CREATE ROLE pgbridge_sql LOGIN PASSWORD 'change me';
--     GRANT pg_read_all_data TO pgbridge_sql;
--
-- Row-level security does not hold for the owner of a table: let another role
-- own the tables.
