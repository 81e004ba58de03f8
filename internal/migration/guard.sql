CREATE SCHEMA IF NOT EXISTS pgbridge;

-- Whoever may create a schema, or something in this one, could have made it to be
-- taken for pgbridge's. What counts is made by its owner, a superuser, the owner of
-- the database, or a role that the one who executes this belongs to.
DO $pgbridge$
DECLARE
    stranger record;
BEGIN
    FOR stranger IN
        SELECT made.object, pg_catalog.pg_get_userbyid(made.owner) AS owner
        FROM pg_catalog.pg_namespace n
        CROSS JOIN LATERAL (
            SELECT 'the schema pgbridge' AS object, n.nspowner AS owner
            UNION ALL SELECT pg_catalog.format('the function %s', p.oid::pg_catalog.regprocedure), p.proowner
                FROM pg_catalog.pg_proc p WHERE p.pronamespace OPERATOR(pg_catalog.=) n.oid AND p.proowner OPERATOR(pg_catalog.<>) n.nspowner
            UNION ALL SELECT pg_catalog.format('%s', c.oid::pg_catalog.regclass), c.relowner
                FROM pg_catalog.pg_class c WHERE c.relnamespace OPERATOR(pg_catalog.=) n.oid AND c.relowner OPERATOR(pg_catalog.<>) n.nspowner
            -- It is in no schema. Its owner could drop it, and so end durable channels.
            UNION ALL SELECT 'the publication pgbridge', p.pubowner
                FROM pg_catalog.pg_publication p WHERE p.pubname OPERATOR(pg_catalog.=) 'pgbridge'
        ) made
        @of_strangers@
            AND n.nspname OPERATOR(pg_catalog.=) 'pgbridge'
        LIMIT 1
    LOOP
        RAISE EXCEPTION '% belongs to %, who is neither a superuser nor the owner of the database', stranger.object, stranger.owner
            USING ERRCODE = 'duplicate_object', HINT = 'Look at who made it. Drop it, give it to another role, or migrate as its owner.';
    END LOOP;
END
$pgbridge$;
