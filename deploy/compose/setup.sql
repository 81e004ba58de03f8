-- For psql, and after pgbridge migrate: the role, unless it is there.
\set ON_ERROR_STOP on
SELECT NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'pgbridge') AS missing \gset
\if :missing
BEGIN;
\ir role.sql
-- What the examples' scripts need.
GRANT SELECT, INSERT, UPDATE ON account, transfer, orders TO pgbridge;
COMMIT;
\endif
