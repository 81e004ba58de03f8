-- The transactional outbox as it is mostly written: a table beside the data, an
-- INSERT in the same transaction, and a process that polls, publishes and deletes.

CREATE TABLE purchase (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	customer text NOT NULL,
	total numeric(10,2) NOT NULL
);

CREATE TABLE outbox (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	topic text NOT NULL,
	payload jsonb NOT NULL
);

CREATE FUNCTION buy(customer text, total numeric) RETURNS bigint LANGUAGE sql AS $$
	WITH made AS (INSERT INTO purchase (customer, total) VALUES (customer, total) RETURNING *),
	     sent AS (INSERT INTO outbox (topic, payload) SELECT 'purchases', to_jsonb(made) FROM made)
	SELECT id FROM made
$$;

-- What the process does, over and over. Its order is that of the ids, which is not
-- that of the commits, and what it published is published again when it dies
-- before its own commit.
--
--   BEGIN;
--   SELECT id, topic, payload FROM outbox ORDER BY id LIMIT 100 FOR UPDATE SKIP LOCKED;
--   (publish each)
--   DELETE FROM outbox WHERE id = ANY (…);
--   COMMIT;
