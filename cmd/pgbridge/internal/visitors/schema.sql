-- What the visitors work on, beside the example's tables.
CREATE TABLE pgbridge_example.stock (
	item text PRIMARY KEY,
	amount int NOT NULL CHECK (amount >= 0)
);
INSERT INTO pgbridge_example.stock (item, amount) VALUES ('lamp', 1000000), ('chair', 1000000), ('table', 0);

-- Each row of a delivery is looked through, which takes its time, and little of it kept.
CREATE TABLE pgbridge_example.delivery (
	item text NOT NULL,
	remarks text NOT NULL
);
CREATE FUNCTION pgbridge_example.look_through() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_catalog.pg_sleep(0.02);
	NEW.remarks := pg_catalog.left(NEW.remarks, 10);
	RETURN NEW;
END $$;
CREATE TRIGGER look_through BEFORE INSERT ON pgbridge_example.delivery
	FOR EACH ROW EXECUTE FUNCTION pgbridge_example.look_through();
