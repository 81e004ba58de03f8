-- Adds a note of the caller's.
INSERT INTO note (text) VALUES (@text) RETURNING id;
