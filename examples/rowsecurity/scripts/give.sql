-- Tries to give a note to somebody else, which the policy forbids.
UPDATE note SET owner = @owner WHERE id = @id;
