-- One account.
-- read_only: true
SELECT id, owner, balance FROM account WHERE id = @id;
