-- New and changed orders from CSV with a header line: id, customer, total.
-- bucket: imports
CREATE TEMPORARY TABLE incoming (LIKE orders) ON COMMIT DROP;

COPY incoming (id, customer, total) FROM STDIN (FORMAT csv, HEADER);

INSERT INTO orders AS o (id, customer, total) OVERRIDING SYSTEM VALUE
SELECT id, customer, total FROM incoming
ON CONFLICT (id) DO UPDATE SET customer = excluded.customer, total = excluded.total
WHERE (o.customer, o.total) IS DISTINCT FROM (excluded.customer, excluded.total);
