-- The PostgreSQL role that pgbridge logs in as. Run it as the database's owner
-- or a superuser, with the database's name for app:
--
--     psql -d app -f deploy/role.sql

CREATE ROLE pgbridge LOGIN PASSWORD 'change me';
GRANT CONNECT ON DATABASE app TO pgbridge;

-- Everybody has this one, unless somebody revoked it:
GRANT EXECUTE ON FUNCTION pg_catalog.pg_notify(text, text) TO pgbridge;
