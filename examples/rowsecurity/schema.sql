-- A table in which everyone sees and changes only their own rows. Who that is
-- says pgbridge.caller, which pgbridge sets from the subject of a request,
-- pgbridge.as.<caller>.…, and NATS's permissions decide who may publish there.

CREATE TABLE note (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	owner text NOT NULL DEFAULT pg_catalog.current_setting('pgbridge.caller'),
	text text NOT NULL
);

-- For an audit trail the same setting says who it was.
CREATE TABLE note_history (
	note bigint NOT NULL,
	caller text NOT NULL,
	at timestamptz NOT NULL DEFAULT pg_catalog.now()
);
CREATE FUNCTION record_note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
	EXECUTE pg_catalog.format('INSERT INTO %I.note_history (note, caller) VALUES ($1, $2)', TG_TABLE_SCHEMA)
		USING NEW.id, pg_catalog.current_setting('pgbridge.caller');
	RETURN NULL;
END $$;
CREATE TRIGGER record AFTER INSERT OR UPDATE ON note
	FOR EACH ROW EXECUTE FUNCTION record_note();

-- Policies hold for every user but the table's owner and superusers, so
-- pgbridge has to connect as another one: here note_app.
ALTER TABLE note ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON note
	USING (owner = pg_catalog.current_setting('pgbridge.caller'))
	WITH CHECK (owner = pg_catalog.current_setting('pgbridge.caller') AND owner <> '');
GRANT SELECT, INSERT, UPDATE, DELETE ON note TO note_app;
