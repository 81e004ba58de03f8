package postgres

// OfStrangersSQL is the end of a query whose FROM has made(owner), the owner of
// something: it leaves what belongs to nobody who is trusted, and more conditions may
// follow. Trusted are the role that asks, one that it belongs to, superusers, and the
// owner of the database. Its names mean PostgreSQL's own objects on any search path.
const OfStrangersSQL = `CROSS JOIN (SELECT r.oid, r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname OPERATOR(pg_catalog.=) current_user) me
        WHERE made.owner OPERATOR(pg_catalog.<>) me.oid
            AND (me.rolsuper OR NOT pg_catalog.pg_has_role(me.oid, made.owner, 'MEMBER'))
            AND NOT EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.oid OPERATOR(pg_catalog.=) made.owner AND r.rolsuper)
            AND NOT EXISTS (SELECT FROM pg_catalog.pg_database d
                WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database() AND d.datdba OPERATOR(pg_catalog.=) made.owner)`
