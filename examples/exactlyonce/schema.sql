-- What the consumer keeps: its data, and in the same database how far it came.

CREATE TABLE revenue (
	customer text PRIMARY KEY,
	total numeric(12,2) NOT NULL
);

CREATE TABLE applied (
	stream text PRIMARY KEY,
	created timestamptz NOT NULL, -- another stream of the same name counts anew
	sequence bigint NOT NULL
);
