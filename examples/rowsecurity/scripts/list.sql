-- Lists the caller's notes, whoever asks.
-- read_only: true
SELECT owner, text FROM note ORDER BY id;
