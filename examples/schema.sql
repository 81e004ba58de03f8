-- The tables that the scripts beside this file work on.

CREATE TABLE account (
	id bigint PRIMARY KEY,
	owner text NOT NULL,
	balance numeric(12,2) NOT NULL CHECK (balance >= 0)
);
INSERT INTO account (id, owner, balance)
VALUES (1, 'Ada', 1000), (2, 'Grace', 250), (3, 'Edsger', 0);

CREATE TABLE transfer (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	source bigint NOT NULL REFERENCES account,
	target bigint NOT NULL REFERENCES account CHECK (target <> source),
	amount numeric(12,2) NOT NULL CHECK (amount > 0),
	made_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE orders (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	customer text NOT NULL,
	total numeric(10,2) NOT NULL
);

-- Announces each new or changed order on the channel orders.
CREATE FUNCTION announce_order() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_catalog.pg_notify('orders', pg_catalog.row_to_json(NEW)::text);
	RETURN NULL;
END $$;
CREATE TRIGGER announce AFTER INSERT OR UPDATE ON orders
	FOR EACH ROW EXECUTE FUNCTION announce_order();
