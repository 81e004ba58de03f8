-- The same with a durable channel: one function call takes the place of the table,
-- of its indexes and vacuum, and of the process. Needs
--
--   pgbridge migrate -c pgbridge.yaml
--   channels: {purchases: {durable: true}}

CREATE TABLE purchase (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	customer text NOT NULL,
	total numeric(10,2) NOT NULL
);

CREATE FUNCTION buy(customer text, total numeric) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	made purchase;
BEGIN
	INSERT INTO purchase (customer, total) VALUES (buy.customer, buy.total) RETURNING * INTO made;
	PERFORM pgbridge.notify('purchases', row_to_json(made)::text);
	RETURN made.id;
END $$;
